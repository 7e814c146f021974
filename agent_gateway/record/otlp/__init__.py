"""Records in OpenTelemetry's words and bytes."""
