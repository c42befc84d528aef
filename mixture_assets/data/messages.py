"""Other libraries' errors, as the end of one of our sentences."""


def first_sentence(error: BaseException) -> str:
    """What an error says first, on one line and without a full stop."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0].partition(". ")[0].rstrip(". :")
