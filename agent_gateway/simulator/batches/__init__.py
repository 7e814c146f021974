"""The providers' batch APIs, simulated: files and jobs in memory, answered by the same simulated model, billed at half price."""
