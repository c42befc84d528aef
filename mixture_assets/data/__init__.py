"""Raw shards to tokens to batches: discovery, tokenizing, the token store, the sampler."""
