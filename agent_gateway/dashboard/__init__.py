"""The web page: its built files, as the wheel carries them, and how they are served. It is built from `web/`."""
