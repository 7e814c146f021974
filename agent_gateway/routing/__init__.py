"""Which deployment first: strategies over what is known of their health."""
