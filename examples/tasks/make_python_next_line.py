"""Write the questions beside this: which line of this package's source comes next?

No line of context is one that examples/specialist shows.
"""

import json
import random
from pathlib import Path

QUESTIONS, CHOICES = 200, 4
LEAST_CHARS, MOST_CHARS = 20, 60  # of a line: two of context and one to choose fit 64 tokens


def main() -> None:
    """Two lines of code, the one that follows, and three of the same kind from elsewhere."""
    folder = Path(__file__).parent
    root = folder.parents[1]
    modules = sorted((root / "mixture_assets").rglob("*.py"))
    texts = [p.read_text(encoding="utf-8").splitlines() for p in modules]
    specialist = root / "examples" / "specialist" / "python.jsonl"
    pieces = specialist.read_text(encoding="utf-8").splitlines()
    shown = {line for piece in pieces for line in json.loads(piece)["text"].splitlines()}
    rng = random.Random(0)
    places = [
        (m, i)
        for m, lines in enumerate(texts)
        for i in range(len(lines) - 2)
        if all(LEAST_CHARS <= len(line) <= MOST_CHARS for line in lines[i : i + 3])
        and not shown & set(lines[i : i + 3])
    ]
    rng.shuffle(places)
    questions = [q for m, i in places if (q := _question(texts, m, i, rng))]
    with open(folder / "python_next_line.jsonl", "w", encoding="utf-8") as file:
        for question in questions[:QUESTIONS]:
            file.write(json.dumps(question) + "\n")


def _question(
    texts: list[list[str]], module: int, line: int, rng: random.Random
) -> dict[str, object] | None:
    right = texts[module][line + 2]
    others = sorted(
        {
            other
            for m, lines in enumerate(texts)
            if m != module
            for other in lines
            if _indent(other) == _indent(right) and abs(len(other) - len(right)) <= 4
        }
        - {right}
    )
    if len(others) < CHOICES - 1:
        return None
    choices = [right, *rng.sample(others, CHOICES - 1)]
    rng.shuffle(choices)
    context = "\n".join(texts[module][line : line + 2]) + "\n"
    return {"context": context, "choices": choices, "answer": choices.index(right)}


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


if __name__ == "__main__":
    main()
