"""A training step beside what a user would write: Hugging Face, eager, fp32, default settings.

Same model (the demo's), same batch, same machine, one after the other, each in a process of
its own, because the allocator is set before torch is imported. Two questions:

    one core      both are confined to one core: what do the settings give?
    the machine   the user's one process uses all cores as torch likes; ours is one process a core.

Prints one JSON line. About a minute.
"""

import json
import os
import subprocess
import sys
import time

WIDTH, LAYERS, HEADS, CONTEXT, VOCABULARY, BATCH_TOKENS = 64, 2, 2, 64, 2048, 512
SECONDS = 8.0


def user_step():
    """As in a tutorial: AutoModel from a config, labels, torch's AdamW, clipping."""
    import torch
    from transformers import AutoModelForCausalLM, LlamaConfig

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=WIDTH,
        intermediate_size=176,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
    )
    model = AutoModelForCausalLM.from_config(config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    tokens = torch.randint(VOCABULARY, (BATCH_TOKENS // CONTEXT, CONTEXT))

    def step():
        loss = model(input_ids=tokens, labels=tokens).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        return float(loss.detach())

    return step, 0.0


def our_step(precision, compiled):
    """The loop's own update, on random tokens."""
    from mixture_assets.training.allocator import tune_allocator

    tune_allocator()
    import torch

    from mixture_assets.core.run import ModelSpec, TrainingSpec
    from mixture_assets.training.device import peak_flops_per_second, probe
    from mixture_assets.training.model import build_model, flops_per_token, parameters_of
    from mixture_assets.training.optimizer import build_optimizer
    from mixture_assets.training.state import mean_loss

    spec = ModelSpec(width=WIDTH, layers=LAYERS, heads=HEADS, context=CONTEXT)
    training = TrainingSpec(precision=precision, compile=compiled)
    device = probe(training, CONTEXT)
    device.apply()
    model = build_model(spec, vocab_size=VOCABULARY, seed=0, attention=device.attention)
    optimizer = build_optimizer(model, training)
    tokens = torch.randint(VOCABULARY, (BATCH_TOKENS // CONTEXT, CONTEXT + 1))
    forward = torch.compile(mean_loss, dynamic=False) if compiled else mean_loss
    peak = peak_flops_per_second(device)

    def step():
        with device.autocast():
            loss = forward(model, tokens)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return float(loss.detach())

    return step, flops_per_token(parameters_of(model)[1], model.config, CONTEXT) / peak


def child(name, cores):
    """Tokens per second of one process, and its share of the measured peak."""
    os.sched_setaffinity(0, {int(c) for c in cores.split(",")})
    if name == "user":
        step, mfu_per_rate = user_step()
    else:
        step, mfu_per_rate = our_step("bf16" if "bf16" in name else "fp32", "compiled" in name)
    for _ in range(5):
        step()
    seconds, begun = [], time.perf_counter()
    while time.perf_counter() - begun < SECONDS:
        start = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - start)
    rate = BATCH_TOKENS / sorted(seconds)[len(seconds) // 2]
    print(json.dumps({"tokens_per_second": rate, "mfu": rate * mfu_per_rate}))


def start(name, cores):
    """Run a child on these cores. Threads as torch likes for the user, one for ours."""
    environment = dict(os.environ)
    if name == "user":
        for key in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
            environment.pop(key, None)
    command = [sys.executable, __file__, name, ",".join(map(str, cores))]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)


def finish(processes):
    """Sum of the rates, and the mean share of the peak."""
    rows = [json.loads(p.communicate()[0].strip().splitlines()[-1]) for p in processes]
    return sum(r["tokens_per_second"] for r in rows), sum(r["mfu"] for r in rows) / len(rows)


def main():
    """Every variant, on one core and on all."""
    cores = sorted(os.sched_getaffinity(0))
    ours = ("ours fp32", "ours fp32 compiled", "ours bf16 compiled")
    answer = {"benchmark": "training_step", "n_cores": len(cores), "tokens_per_second": {}}
    one_user, _ = finish([start("user", cores[:1])])
    all_user, _ = finish([start("user", cores)])
    answer["tokens_per_second"] |= {"user, one core": one_user, "user, machine": all_user}
    for name in ours:
        one, mfu = finish([start(name, cores[:1])])
        whole, _ = finish([start(name, [core]) for core in cores])
        answer["tokens_per_second"] |= {f"{name}, one core": one, f"{name}, machine": whole}
        answer[f"{name}: ratio on one core"] = round(one / one_user, 2)
        answer[f"{name}: ratio on the machine"] = round(whole / all_user, 2)
        answer[f"{name}: share of peak"] = round(mfu, 2)
    rates = answer["tokens_per_second"]
    answer["tokens_per_second"] = {name: round(rate) for name, rate in rates.items()}
    print(json.dumps(answer))


if __name__ == "__main__":
    if len(sys.argv) > 1:
        child(*sys.argv[1:])
    else:
        main()
