"""What is wrong with a configuration, gathered so that one run reports all of it; never shows a secret."""

from __future__ import annotations

from dataclasses import dataclass, field


class ConfigurationError(Exception):
    """`errors`: one line each, `path: what is wrong, what would be right`."""

    def __init__(self, errors: list[str]) -> None:
        super().__init__("\n".join(errors))
        self.errors = errors


@dataclass(slots=True)
class Findings:
    """`origins`: path → the variable or option that set it over the file; named in errors, since the file will not show it."""

    origins: dict[str, str] = field(default_factory=dict)
    #: Values of variables that hold secrets: hidden wherever an error would show them.
    secrets: set[str] = field(default_factory=set)
    errors: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def error(self, path: str, text: str) -> None:
        self.errors.append(self._line(path, text))

    def warn(self, path: str, text: str) -> None:
        self.warnings.append(self._line(path, text))

    def tells_of(self, path: str) -> bool:
        """Whether an error stands at this very place already."""
        return any(line.startswith((f"{path}: ", f"{path} (")) for line in self.errors)

    def raise_if_any(self) -> None:
        """`ConfigurationError` with all of them, each once."""
        if self.errors:
            raise ConfigurationError(list(dict.fromkeys(self.errors)))

    def _line(self, path: str, text: str) -> str:
        for secret in self.secrets:
            text = text.replace(secret, "…")
        origin = self.origins.get(path)
        return f"{path} (set by {origin}): {text}" if origin else f"{path}: {text}"
