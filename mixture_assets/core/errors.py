"""The one error, and the one warning, that users are meant to meet."""


class MixtureError(ValueError):
    """A mistake the reader can fix: a bad file, a bad setting, an impossible request.

    Args:
        problem: One sentence with the offending names and numbers in it.
        hint: What to do next, as a command or a config key. Shown as a traceback note.
    """

    def __init__(self, problem: str, *, hint: str = "") -> None:
        super().__init__(problem)
        if hint:
            self.add_note(f"hint: {hint}")

    @property
    def hint(self) -> str:
        """The hint without its prefix, or an empty string."""
        notes: list[str] = getattr(self, "__notes__", [])
        return next((n.removeprefix("hint: ") for n in notes if n.startswith("hint: ")), "")


class MachineError(MixtureError):
    """A fault of the machine, told like a mistake: a full disk. The same input may do later."""


class MixtureWarning(UserWarning):
    """The result is right, but the reader may be surprised."""


def shortlist(names: object, limit: int = 3) -> str:
    """At most `limit` names in reading order, then `...`: for use inside a message."""
    ordered = sorted(names)  # type: ignore[call-overload]
    shown = ", ".join(repr(name) for name in ordered[:limit])
    return shown + (", ..." if len(ordered) > limit else "")
