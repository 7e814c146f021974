"""`python -m agent_gateway` is `agent-gateway`."""

from __future__ import annotations

import sys

from agent_gateway.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
