-- Tables of mixture.duckdb. Units stand in the names; times are UTC. docs/store.md explains them.
-- Every row comes from a run folder or a record: drop the file and it is built again.

CREATE TABLE shard (            -- raw files
    shard_id VARCHAR,           -- sha256 of the content, 16 hex
    domain VARCHAR,
    url VARCHAR,                -- path or fsspec URL
    n_bytes BIGINT,             -- bytes of the file as it lies there
    n_documents BIGINT,
    n_empty_documents BIGINT,   -- counted, not kept
    format VARCHAR,
    PRIMARY KEY (shard_id, domain, url)
);
CREATE TABLE tokenizer (
    tokenizer_id VARCHAR,       -- digest of its behaviour on a probe text
    vocab_size BIGINT,          -- tokens
    kind VARCHAR,
    name VARCHAR,
    PRIMARY KEY (tokenizer_id)
);
CREATE TABLE token_shard (      -- one per raw shard and tokenizer
    token_shard_id VARCHAR,
    shard_id VARCHAR,
    domain VARCHAR,
    tokenizer_id VARCHAR,
    n_tokens BIGINT,
    n_documents BIGINT,
    n_bytes BIGINT,             -- UTF-8 bytes of the text
    engine VARCHAR,             -- 'gigatoken' or 'tokenizers'
    PRIMARY KEY (token_shard_id, domain)
);
CREATE TABLE domain (           -- training tokens and validation documents of a domain
    token_set_id VARCHAR,
    domain VARCHAR,
    available_tokens BIGINT,    -- one pass over the training documents
    n_documents BIGINT,         -- training documents
    validation_id VARCHAR,
    validation_tokens BIGINT,
    validation_documents BIGINT,
    PRIMARY KEY (token_set_id, domain)
);
CREATE TABLE domain_event (     -- what became of a domain's raw files
    event_id VARCHAR,
    experiment VARCHAR,
    domain VARCHAR,
    event VARCHAR,              -- landed, grew, shrank, changed, vanished, returned, quarantined, released
    number BIGINT,              -- of this domain's events, from 1
    fingerprint VARCHAR,        -- of names, sizes and times of the shards
    previous_fingerprint VARCHAR,
    n_shards BIGINT,
    n_bytes BIGINT,             -- of the shards as they lie there
    reason VARCHAR,
    hint VARCHAR,               -- what to do about it
    seen_at TIMESTAMP,
    PRIMARY KEY (event_id)
);
CREATE TABLE run (
    run_id VARCHAR,             -- digest of `spec`; names the run folder
    purpose VARCHAR,            -- 'proxy', 'full'; of a selection 'base', 'selector', 'finetune'
    label VARCHAR,
    experiment VARCHAR,
    scale VARCHAR,              -- 'small', 'large', 'full'
    mixture_name VARCHAR,
    status VARCHAR,             -- planned, running, done, failed, cancelled, interrupted
    reason VARCHAR,             -- of a failure, a cancellation, a later measurement that failed
    hint VARCHAR,               -- what to do about it
    attempts BIGINT,            -- of a failure
    seed BIGINT,
    n_params BIGINT,
    budget_tokens BIGINT,       -- requested, over all domains
    steps BIGINT,               -- optimizer steps
    seconds DOUBLE,             -- of training, over all processes
    flops_train DOUBLE,
    flops_eval DOUBLE,
    flops_steering DOUBLE,      -- what a static run of the same tokens would not have computed
    seconds_steering DOUBLE,    -- the same, measured; NULL for a static run
    device VARCHAR,
    numeric_path VARCHAR,       -- device, precision and kernels
    code_version VARCHAR,
    peak_memory_bytes BIGINT,
    created_at TIMESTAMP,
    finished_at TIMESTAMP,
    spec JSON,                  -- everything that names the run
    PRIMARY KEY (run_id)
);
CREATE TABLE run_domain_tokens (
    run_id VARCHAR,
    domain VARCHAR,
    requested_tokens BIGINT,
    realised_tokens BIGINT,     -- NULL until the run is done
    PRIMARY KEY (run_id, domain)
);
CREATE TABLE step_metric (
    run_id VARCHAR,
    step BIGINT,                -- optimizer steps done, from 1
    tokens BIGINT,              -- seen so far
    loss_nats DOUBLE,           -- training loss per token
    learning_rate DOUBLE,
    grad_norm DOUBLE,           -- before clipping; NULL where it was not finite
    tokens_per_second DOUBLE,
    seconds DOUBLE,             -- of training so far
    PRIMARY KEY (run_id, step)
);
CREATE TABLE evaluation (       -- validation loss of a domain at a step
    run_id VARCHAR,
    step BIGINT,
    tokens BIGINT,              -- trained on so far
    domain VARCHAR,
    validation_id VARCHAR,      -- the documents that it was measured on
    metric_version BIGINT,      -- of the code that measures
    loss_nats DOUBLE,           -- per token
    loss_se_nats DOUBLE,        -- standard error over documents
    bits_per_byte DOUBLE,
    bits_per_byte_se DOUBLE,    -- standard error over documents
    perplexity DOUBLE,          -- exp(loss_nats)
    n_tokens BIGINT,            -- scored
    n_documents BIGINT,         -- scored
    is_final BOOLEAN,           -- from result.json or losses/*.json: a number that counts
    PRIMARY KEY (run_id, step, domain, validation_id, metric_version)
);
CREATE TABLE fit (              -- objective against one domain's amount, or a swarm's law
    fit_id VARCHAR,
    proposal_id VARCHAR,
    domain VARCHAR,
    scale VARCHAR,
    base_tokens DOUBLE,         -- of this domain in the base run
    optimum DOUBLE,             -- multiples of base_tokens
    degrees_of_freedom BIGINT,
    residual_sd DOUBLE,         -- multiples of the base run's objective
    is_improving BOOLEAN,
    is_at_floor BOOLEAN,
    PRIMARY KEY (fit_id)
);
CREATE TABLE fit_parameter (
    fit_id VARCHAR,
    name VARCHAR,               -- 'a', 'b', 'c'; of a selection 'ceiling', 'zero', 'rate'
    value DOUBLE,
    PRIMARY KEY (fit_id, name)
);
CREATE TABLE proposal (
    proposal_id VARCHAR,
    experiment VARCHAR,
    method VARCHAR,
    objective VARCHAR,
    budget_tokens BIGINT,       -- of the full run that the weights are for
    extrapolation_factor DOUBLE, -- that budget over the largest proxy budget
    noise_sd DOUBLE,            -- of the objective over seeds
    created_at TIMESTAMP,
    notes VARCHAR,              -- JSON list of sentences to read with the weights
    PRIMARY KEY (proposal_id)
);
CREATE TABLE proposal_weight (
    proposal_id VARCHAR,
    domain VARCHAR,
    weight DOUBLE,              -- probability that a token comes from the domain
    weight_low DOUBLE,          -- 90 % interval
    weight_high DOUBLE,
    natural_weight DOUBLE,
    uniform_weight DOUBLE,
    epochs DOUBLE,              -- passes over the domain's data
    is_at_floor BOOLEAN,
    is_held BOOLEAN,            -- growth out of a floor was not extrapolated
    is_capped BOOLEAN,          -- held down by max_epochs
    is_improving BOOLEAN,
    PRIMARY KEY (proposal_id, domain)
);
CREATE TABLE prediction (       -- what a proposal expects of the full run, said before it
    proposal_id VARCHAR,
    quantity VARCHAR,           -- with its unit
    baseline VARCHAR,           -- that the proposal is set beside
    value DOUBLE,
    low DOUBLE,                 -- 90 % interval
    high DOUBLE,
    PRIMARY KEY (proposal_id, quantity, baseline)
);
CREATE TABLE comparison (       -- a proposal against a baseline, at the same budget
    comparison_id VARCHAR,
    experiment VARCHAR,
    proposal_id VARCHAR,
    baseline VARCHAR,           -- 'natural', 'uniform', ...
    objective VARCHAR,
    tokens BIGINT,              -- that the two are compared at
    proposal_value DOUBLE,      -- in the objective's unit, mean over seeds
    baseline_value DOUBLE,
    difference DOUBLE,          -- proposal minus baseline
    low DOUBLE,                 -- 90 % interval of the difference
    high DOUBLE,
    noise_sd DOUBLE,
    speed_up DOUBLE,            -- 1 - tokens to reach the baseline's value / its tokens
    n_seeds BIGINT,
    verdict VARCHAR,
    PRIMARY KEY (comparison_id)
);
CREATE TABLE refit (            -- domains changed: how new weights were searched
    refit_id VARCHAR,
    experiment VARCHAR,
    corpus_id VARCHAR,          -- names the tokens of every domain
    way VARCHAR,                -- 'full', 'extend', 'reuse'
    added VARCHAR,              -- names of domains, separated by ', '
    changed VARCHAR,
    removed VARCHAR,
    created_at TIMESTAMP,
    PRIMARY KEY (refit_id)
);
CREATE TABLE refit_option (     -- every way, priced before it started, or why it was not open
    refit_id VARCHAR,
    way VARCHAR,
    is_chosen BOOLEAN,
    n_runs BIGINT,
    n_to_keep BIGINT,           -- finished runs that count as they are
    n_to_measure BIGINT,        -- finished runs to measure on further domains
    n_to_train BIGINT,
    tokens BIGINT,              -- to train on
    flops DOUBLE,               -- of training and evaluation
    device_seconds DOUBLE,      -- of training, from the speed measured before it started
    problem VARCHAR,            -- why this way could not be gone, and has no numbers
    PRIMARY KEY (refit_id, way)
);
CREATE TABLE refit_run (        -- the runs of the chosen way, with their prices
    refit_id VARCHAR,
    run_id VARCHAR,
    action VARCHAR,             -- 'keep', 'measure', 'train'
    flops DOUBLE,
    validation_ids VARCHAR,     -- to measure on, at its end or later, separated by ', '
    PRIMARY KEY (refit_id, run_id)
);
CREATE TABLE run_validity (     -- what becomes of each earlier proxy run, by way
    refit_id VARCHAR,
    way VARCHAR,
    run_id VARCHAR,
    label VARCHAR,
    fate VARCHAR,               -- 'kept', 'measured', 'unused'
    reason VARCHAR,
    PRIMARY KEY (refit_id, way, run_id)
);
CREATE TABLE weight_trajectory ( -- weights of a run that steered itself
    run_id VARCHAR,
    from_token BIGINT,          -- from which the weight held, until the next row
    step BIGINT,                -- optimizer steps done
    domain VARCHAR,             -- or a basis distribution, where the run mixed those
    weight DOUBLE,              -- probability that a token comes from the domain
    iterate DOUBLE,             -- of the update rule, before its moving average and its floor
    alignment DOUBLE,           -- <gradient of the domain, gradient of the specialist set>, clipped
    alignment_se DOUBLE,        -- standard error over sequences
    steering_loss_nats DOUBLE,  -- of the specialist batch behind the update
    PRIMARY KEY (run_id, from_token, domain)
);
CREATE TABLE selection_pool (   -- documents to choose from
    pool_id VARCHAR,
    experiment VARCHAR,
    n_documents BIGINT,
    n_tokens BIGINT,
    n_leaked BIGINT,            -- left out: they are in the specialist set
    n_held_out BIGINT,          -- left out: a domain is measured on them
    n_repeated BIGINT,          -- left out: the same content again
    n_beyond BIGINT,            -- left out: beyond pool_tokens
    PRIMARY KEY (pool_id, experiment)
);
CREATE TABLE selection_score_set ( -- what one method says of every document of a pool
    score_set_id VARCHAR,
    method VARCHAR,
    pool_id VARCHAR,
    specialist_id VARCHAR,      -- documents that steer
    n_documents BIGINT,
    n_tokens BIGINT,
    n_nan BIGINT,               -- documents without a finite score: never chosen
    flops DOUBLE,               -- of matrix products in scoring
    seconds DOUBLE,
    device VARCHAR,
    code_version VARCHAR,
    settings JSON,
    PRIMARY KEY (score_set_id)
);
CREATE TABLE selection_point (  -- one subset, trained on and judged
    sweep_id VARCHAR,
    method VARCHAR,
    share DOUBLE,               -- of the pool's tokens
    model VARCHAR,              -- name in [selection.models]
    seed BIGINT,
    run_id VARCHAR,
    score_set_id VARCHAR,
    n_documents BIGINT,
    selection_flops DOUBLE,     -- selectors' training and scoring, for one specialist set
    total_flops DOUBLE,         -- with training on the subset
    full_flops DOUBLE,          -- training this model on the whole pool once
    judged_loss_nats DOUBLE,
    train_params DOUBLE,
    selector_params DOUBLE,
    PRIMARY KEY (sweep_id, method, share, model, seed)
);
CREATE TABLE orchestration_run ( -- a run of Dagster that did not end well
    dagster_run_id VARCHAR,
    job VARCHAR,
    experiment VARCHAR,
    status VARCHAR,             -- 'failed' or 'cancelled'
    step VARCHAR,               -- that failed, or was under way
    reason VARCHAR,             -- one sentence
    hint VARCHAR,               -- what to do about it
    step_attempts BIGINT,       -- how often the step was begun in this run
    run_attempt BIGINT,         -- 1, or more if Dagster started it again
    started_at TIMESTAMP,
    finished_at TIMESTAMP,
    PRIMARY KEY (dagster_run_id)
);
CREATE TABLE cost (             -- what a decision rests on, run by run
    decision_id VARCHAR,        -- a proposal, a comparison or a re-fit
    run_id VARCHAR,
    flops DOUBLE,
    device_seconds DOUBLE,
    device VARCHAR,
    role VARCHAR,               -- 'proxy', 'full', 'refit, train', 'refit, measure', ...
    predicted_flops DOUBLE,     -- of a selection: training and scoring by the cost model
    PRIMARY KEY (decision_id, run_id, role)
);
CREATE TABLE edge (             -- child rests on parent
    child VARCHAR,              -- an id; one proposed weight is '<proposal_id>:<domain>'
    parent VARCHAR,
    role VARCHAR,
    PRIMARY KEY (child, parent, role)
);
CREATE TABLE latest (           -- the proposal that an experiment's files lead to now
    experiment VARCHAR,
    proposal_id VARCHAR,
    PRIMARY KEY (experiment)
);
CREATE TABLE experiment_run (   -- a run under the name that an experiment gives it
    experiment VARCHAR,
    run_id VARCHAR,
    purpose VARCHAR,            -- 'proxy', 'full'; of a selection 'base', 'selector', 'finetune'
    label VARCHAR,
    scale VARCHAR,
    mixture_name VARCHAR,
    PRIMARY KEY (experiment, run_id, label)
);
CREATE TABLE input (            -- what a thing was made from, one value a row
    owner VARCHAR,              -- an id; what an experiment says now is 'experiment:<name>'
    kind VARCHAR,               -- 'token_set', 'proxy', 'training', ...
    name VARCHAR,               -- a domain, or a key of the experiment file
    value VARCHAR,              -- a digest, or a value as JSON
    PRIMARY KEY (owner, kind, name)
);
CREATE TABLE ingested (         -- what the index holds of each file
    file VARCHAR,               -- below the store
    fingerprint VARCHAR,        -- sizes, times and status when it was read
    PRIMARY KEY (file)
);
