"""Selectors by name.

| Name | What comes first | Reads |
|---|---|---|
| random | any document, by a seeded hash | nothing |
| bm25 | documents that share rare words with the specialist set | text, on the CPU |
| embedding | documents whose embeddings are near the specialist set's | text |
| perplexity | documents that a tuned model finds middling (or easy, or hard) | a forward pass |
| gradient | documents whose training step would lower the specialist loss | three forward passes |
"""

from importlib import import_module
from typing import Any

from mixture_assets.core.errors import MixtureError
from mixture_assets.core.names import nearest
from mixture_assets.selection.selector import Selector

# Loaded when asked for: two of them load torch.
_CLASSES = {
    "random": ("random_order", "RandomOrder"),
    "bm25": ("bm25", "Bm25"),
    "embedding": ("embedding", "MeanCosine"),
    "perplexity": ("perplexity", "Perplexity"),
    "gradient": ("gradient", "Gradient"),
}
NAMES = tuple(_CLASSES)
INFORMED = tuple(name for name in NAMES if name != "random")  # they look at the specialist set


def build_selector(name: str, **settings: Any) -> Selector:
    """The selector of that name; `settings` are its class's.

    Raises:
        MixtureError: There is none of that name, or it has no such setting.
    """
    if name not in _CLASSES:
        raise MixtureError(
            f"there is no selector {name!r}{nearest(name, NAMES)}",
            hint=f"selectors are {', '.join(NAMES)}",
        )
    module, kind = _CLASSES[name]
    made = getattr(import_module(f"mixture_assets.selection.{module}"), kind)
    known = [k for k, f in made.__dataclass_fields__.items() if f.init and not k.startswith("_")]
    known.remove("name")
    for key in settings:
        if key not in known:
            raise MixtureError(
                f"selector {name!r} has no setting {key!r}{nearest(key, known)}",
                hint=f"it has {', '.join(known)}",
            )
    selector: Selector = made(**settings)
    return selector
