"""What is said on its way in and out: checked, and blocked, masked or flagged as configured."""
