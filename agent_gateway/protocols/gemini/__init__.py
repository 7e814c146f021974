"""Gemini's generateContent and streamGenerateContent: https://ai.google.dev/api/generate-content."""
