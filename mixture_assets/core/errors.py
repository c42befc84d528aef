"""The one error, and the one warning, that users are meant to meet."""

_LONGEST_PROBLEM = 600  # characters; a file can hold names of any length


class MixtureError(ValueError):
    """A mistake the reader can fix: a bad file, a bad setting, an impossible request.

    Args:
        problem: One sentence with the offending names and numbers in it. Names and other
            libraries' words can be anything, so it is put on one line and cut to a screen.
        hint: What to do next, as a command or a config key. Shown as a traceback note.
    """

    def __init__(self, problem: str, *, hint: str = "") -> None:
        super().__init__(_one_line(problem))
        if hint:
            self.add_note(f"hint: {_one_line(hint)}")

    @property
    def hint(self) -> str:
        """The hint without its prefix, or an empty string."""
        notes: list[str] = getattr(self, "__notes__", [])
        return next((n.removeprefix("hint: ") for n in notes if n.startswith("hint: ")), "")


def _one_line(text: str) -> str:
    if not text.isprintable():  # line breaks, control characters, halves of characters
        text = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
    if len(text) <= _LONGEST_PROBLEM:
        return text
    return f"{text[: _LONGEST_PROBLEM * 2 // 3]} ... {text[-_LONGEST_PROBLEM // 4 :]}"


class MachineError(MixtureError):
    """A fault of the machine, told like a mistake: a full disk. The same input may do later."""


class MixtureWarning(UserWarning):
    """The result is right, but the reader may be surprised."""


def quoted(value: object, limit: int = 80) -> str:
    """As Python writes it, cut to a length that a sentence can hold, with `...` for the rest."""
    text = repr(value)
    return text if len(text) <= limit else f"{text[: limit - 4]} ..."


def shortlist(names: object, limit: int = 3) -> str:
    """At most `limit` names in reading order, then `...`: for use inside a message."""
    ordered = sorted(names)  # type: ignore[call-overload]
    shown = ", ".join(repr(name) for name in ordered[:limit])
    return shown + (", ..." if len(ordered) > limit else "")
