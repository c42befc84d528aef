"""Losses by domain on the fixed validation documents, with standard errors over documents.

The validation documents of a domain stand in one stream, an end-of-text token before the first
and after each, cut into windows as in training. Every token is predicted once; the end-of-text
token counts to the document that it ends.

Units: nats per token, bits per UTF-8 byte, perplexity = exp(nats per token).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from transformers import PreTrainedModel

_IGNORE = -100


@dataclass(frozen=True)
class DomainLoss:
    """One domain's validation loss."""

    loss_nats: float  # per token
    loss_se_nats: float | None  # standard error over documents
    bits_per_byte: float
    bits_per_byte_se: float | None  # None for a single document
    perplexity: float
    n_tokens: int
    n_documents: int


@dataclass(frozen=True)
class ValidationStream:
    """A domain's validation documents, laid out for a model of one context length."""

    input_WC: torch.Tensor  # windows x context
    label_WC: torch.Tensor  # the next token, or -100 past the end
    document_WC: NDArray[np.int64]  # which document each label belongs to, or -1
    bytes_K: NDArray[np.float64]  # by document


def lay_out(
    input_ids: NDArray[np.integer],
    offsets: NDArray[np.integer],
    n_bytes: NDArray[np.integer],
    *,
    eos_id: int,
    context: int,
) -> ValidationStream:
    """Cut documents into windows.

    Args:
        input_ids: Tokens of all documents, one after the other, without end-of-text.
        offsets: Where each document begins and the last one ends: documents + 1 numbers.
        n_bytes: UTF-8 bytes of each document.
        eos_id: The end-of-text token.
        context: Tokens that the model sees.
    """
    lengths = np.diff(offsets)
    document = np.repeat(np.arange(len(lengths)), lengths + 1)  # each with its end-of-text
    stream = np.full(len(document) + 1, eos_id, np.int64)
    is_text = np.ones(len(document), bool)
    is_text[np.cumsum(lengths + 1) - 1] = False
    stream[1:][is_text] = input_ids
    n_rows = -(-len(document) // context)
    padded = n_rows * context
    inputs = np.full(padded, eos_id, np.int64)
    labels = np.full(padded, _IGNORE, np.int64)
    owners = np.full(padded, -1, np.int64)
    inputs[: len(document)], labels[: len(document)] = stream[:-1], stream[1:]
    owners[: len(document)] = document
    return ValidationStream(
        torch.from_numpy(inputs.reshape(n_rows, context)),
        torch.from_numpy(labels.reshape(n_rows, context)),
        owners.reshape(n_rows, context),
        n_bytes.astype(np.float64),
    )


def evaluate(
    model: PreTrainedModel, streams: Mapping[str, ValidationStream], *, batch: int
) -> dict[str, DomainLoss]:
    """Loss of every domain. `batch` windows go through the model at a time."""
    was_training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            return {name: _evaluate(model, stream, batch) for name, stream in streams.items()}
    finally:
        model.train(was_training)


def _evaluate(model: PreTrainedModel, stream: ValidationStream, batch: int) -> DomainLoss:
    n_documents = len(stream.bytes_K)
    nats_K, tokens_K = np.zeros(n_documents), np.zeros(n_documents)
    for first in range(0, len(stream.input_WC), batch):
        inputs = stream.input_WC[first : first + batch].to(model.device)
        labels = stream.label_WC[first : first + batch].to(model.device)
        logits = model(input_ids=inputs, use_cache=False).logits.float()
        nats = F.cross_entropy(
            logits.flatten(0, 1), labels.flatten(), ignore_index=_IGNORE, reduction="none"
        )
        owner = stream.document_WC[first : first + batch].ravel()
        kept = owner >= 0
        values = nats.double().cpu().numpy()[kept]
        nats_K += np.bincount(owner[kept], values, n_documents)
        tokens_K += np.bincount(owner[kept], minlength=n_documents)
    return summarise(nats_K, tokens_K, stream.bytes_K)


def summarise(
    nats_K: NDArray[np.float64], tokens_K: NDArray[np.float64], bytes_K: NDArray[np.float64]
) -> DomainLoss:
    """Ratios of sums over K documents, with the linearised standard error of a ratio."""
    loss, loss_se = _ratio(nats_K, tokens_K)
    bits, bits_se = _ratio(nats_K / math.log(2), bytes_K)
    return DomainLoss(
        loss_nats=loss,
        loss_se_nats=loss_se,
        bits_per_byte=bits,
        bits_per_byte_se=bits_se,
        perplexity=math.exp(min(loss, 700.0)),
        n_tokens=int(tokens_K.sum()),
        n_documents=len(tokens_K),
    )


def _ratio(top_K: NDArray[np.float64], bottom_K: NDArray[np.float64]) -> tuple[float, float | None]:
    """sum(top) / sum(bottom), and its standard error with documents as the sampling unit."""
    n, total = len(top_K), float(bottom_K.sum())
    ratio = float(top_K.sum()) / total
    if n < 2:
        return ratio, None
    spread = float(((top_K - ratio * bottom_K) ** 2).sum())
    return ratio, math.sqrt(spread * n / (n - 1)) / total
