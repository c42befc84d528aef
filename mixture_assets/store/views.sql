-- Views of mixture.duckdb: questions that come up every day. docs/store.md explains them.

-- Everything that an edge can end in, with what a reader wants to know about it.
CREATE VIEW node AS
    SELECT proposal_id AS node, 'proposal' AS node_kind, NULL AS node_domain,
        concat_ws(' ', method, 'for', budget_tokens, 'tokens') AS detail FROM proposal
    UNION ALL
    SELECT proposal_id || ':' || domain, 'weight', domain, 'weight ' || round(weight, 4)
        FROM proposal_weight
    UNION ALL SELECT fit_id, 'fit', domain, scale || ' scale' FROM fit
    UNION ALL SELECT run_id, 'run', NULL, concat_ws(', ', label, status) FROM run
    UNION ALL SELECT token_set_id, 'token_set', domain, available_tokens || ' tokens' FROM domain
    UNION ALL SELECT token_shard_id, 'token_shard', domain, n_tokens || ' tokens' FROM token_shard
    UNION ALL SELECT tokenizer_id, 'tokenizer', NULL, name FROM tokenizer
    UNION ALL
    SELECT DISTINCT pool_id, 'pool', NULL, n_documents || ' documents' FROM selection_pool
    UNION ALL SELECT score_set_id, 'score_set', NULL, method FROM selection_score_set
    UNION ALL SELECT shard_id, 'shard', domain, url FROM shard
    UNION ALL
    SELECT comparison_id, 'comparison', NULL, concat_ws(' ', 'against', baseline || ':', verdict)
        FROM comparison;

-- From each proposed weight down every edge to the raw shards.
CREATE VIEW lineage AS
    WITH RECURSIVE walk(proposal_id, domain, depth, child, role, node) AS (
        SELECT proposal_id, domain, 0, NULL::VARCHAR, 'weight', proposal_id || ':' || domain
            FROM proposal_weight
        UNION
        SELECT walk.proposal_id, walk.domain, walk.depth + 1, edge.child, edge.role, edge.parent
            FROM walk JOIN edge ON edge.child = walk.node
            WHERE walk.depth < 32 -- deeper than any chain of ours: a circle must end
    )
    SELECT walk.proposal_id, walk.domain, proposal_weight.weight, walk.depth,
        coalesce(node.node_kind, 'unknown') AS node_kind, walk.node, walk.role, walk.child,
        node.node_domain, node.detail
    FROM walk
    JOIN proposal_weight USING (proposal_id, domain)
    LEFT JOIN node USING (node);

-- The same from any one node: SELECT * FROM lineage_from('<id>').
CREATE MACRO lineage_from(start) AS TABLE
    WITH RECURSIVE walk(depth, child, role, node) AS (
        SELECT 0, NULL::VARCHAR, NULL::VARCHAR, start
        UNION
        SELECT walk.depth + 1, edge.child, edge.role, edge.parent
            FROM walk JOIN edge ON edge.child = walk.node WHERE walk.depth < 32
    )
    SELECT walk.depth, coalesce(node.node_kind, 'unknown') AS node_kind, walk.node, walk.role,
        walk.child, node.node_domain, node.detail
    FROM walk LEFT JOIN node USING (node);

-- Every run under every name that it has: one that two experiments share is there for both.
CREATE VIEW planned_run AS
    SELECT experiment, run_id, purpose, label, scale, mixture_name FROM experiment_run
    UNION ALL
    SELECT experiment, run_id, purpose, label, scale, mixture_name FROM run
    WHERE NOT EXISTS (
        SELECT 1 FROM experiment_run AS named
        WHERE named.run_id = run.run_id AND named.experiment = run.experiment);

-- What methods are told: every finished proxy run, every domain.
CREATE VIEW proxy_results AS
    SELECT run.run_id, planned_run.experiment, planned_run.scale, planned_run.label, run.seed,
        run.budget_tokens,
        evaluation.domain, run_domain_tokens.requested_tokens, run_domain_tokens.realised_tokens,
        evaluation.loss_nats, evaluation.loss_se_nats, evaluation.bits_per_byte,
        evaluation.perplexity, evaluation.validation_id, evaluation.metric_version, run.numeric_path
    FROM run
    JOIN planned_run USING (run_id)
    JOIN evaluation ON evaluation.run_id = run.run_id AND evaluation.is_final
    LEFT JOIN run_domain_tokens
        ON run_domain_tokens.run_id = run.run_id AND run_domain_tokens.domain = evaluation.domain
    WHERE planned_run.purpose = 'proxy' AND run.status = 'done';

CREATE VIEW weight_history AS
    SELECT proposal.experiment, proposal.created_at, proposal_weight.proposal_id, proposal.method,
        proposal.objective, proposal.budget_tokens, proposal_weight.domain, proposal_weight.weight,
        proposal_weight.weight_low, proposal_weight.weight_high, proposal_weight.natural_weight,
        proposal_weight.epochs
    FROM proposal JOIN proposal_weight USING (proposal_id);

-- The proposal of each experiment that its files lead to now; without that, the newest one.
CREATE VIEW latest_weights AS
    SELECT weight_history.* FROM weight_history
    LEFT JOIN latest ON latest.experiment = weight_history.experiment
        AND latest.proposal_id = weight_history.proposal_id
    QUALIFY dense_rank() OVER (
        PARTITION BY weight_history.experiment
        ORDER BY latest.proposal_id IS NOT NULL DESC, created_at DESC NULLS LAST,
            weight_history.proposal_id DESC) = 1;

-- One final loss per run, domain and experiment: on the documents that the experiment measures on
-- now, where a run was measured on those; a run may have been measured on several.
CREATE VIEW final_evaluation AS
    SELECT planned_run.experiment, evaluation.*
    FROM evaluation
    JOIN planned_run USING (run_id)
    LEFT JOIN input ON input.owner = 'experiment:' || planned_run.experiment
        AND input.kind = 'validation_set' AND input.name = evaluation.domain
    WHERE evaluation.is_final
    QUALIFY row_number() OVER (
        PARTITION BY planned_run.experiment, run_id, evaluation.domain, metric_version
        ORDER BY validation_id IS NOT DISTINCT FROM input.value DESC, validation_id) = 1;

-- Finished full runs, best first within an experiment, a budget and the same documents.
CREATE VIEW leaderboard AS
    SELECT experiment, budget_tokens,
        rank() OVER (
            PARTITION BY experiment, budget_tokens, measured_on, metric_version
            ORDER BY mean_loss_nats) AS place,
        mixture_name, seed, mean_loss_nats, mean_perplexity, mean_bits_per_byte, n_domains,
        measured_on, metric_version, flops_train, seconds, device, run_id
    FROM (
        SELECT planned_run.experiment, run.budget_tokens, planned_run.mixture_name, run.seed,
            avg(evaluation.loss_nats) AS mean_loss_nats,
            avg(evaluation.perplexity) AS mean_perplexity,
            avg(evaluation.bits_per_byte) AS mean_bits_per_byte,
            count(*) AS n_domains,
            md5(string_agg(evaluation.validation_id, ' ' ORDER BY domain))[:8] AS measured_on,
            evaluation.metric_version, run.flops_train, run.seconds,
            run.device, run.run_id
        FROM run JOIN planned_run USING (run_id)
        JOIN final_evaluation AS evaluation
            ON evaluation.run_id = run.run_id AND evaluation.experiment = planned_run.experiment
        WHERE planned_run.purpose = 'full' AND run.status = 'done'
            AND evaluation.domain NOT IN ('specialist', 'specialist_steering')
        GROUP BY ALL
    );

-- Full runs on specialist sets, best first in each: the loss on documents that judge, beside the
-- loss on those of the same set that steer, the mean loss on the domains (what was forgotten), and
-- what steering cost.
CREATE VIEW specialist_leaderboard AS
    SELECT planned_run.experiment, run.budget_tokens, planned_run.mixture_name, run.seed,
        judged.loss_nats AS specialist_loss_nats, judged.loss_se_nats AS specialist_loss_se_nats,
        steering.loss_nats AS steering_loss_nats, leaderboard.mean_loss_nats,
        run.flops_train, run.flops_steering, run.seconds, run.seconds_steering,
        judged.validation_id AS measured_on, judged.metric_version, run.run_id
    FROM run
    JOIN planned_run USING (run_id)
    JOIN evaluation AS judged ON judged.run_id = run.run_id
        AND judged.is_final AND judged.domain = 'specialist'
    LEFT JOIN edge ON edge.child = judged.validation_id AND edge.role = 'judges_beside'
    LEFT JOIN evaluation AS steering ON steering.run_id = run.run_id
        AND steering.is_final AND steering.domain = 'specialist_steering'
        AND steering.validation_id = coalesce(edge.parent, steering.validation_id)
        AND steering.metric_version = judged.metric_version
    LEFT JOIN leaderboard ON leaderboard.run_id = run.run_id
        AND leaderboard.experiment = planned_run.experiment
    WHERE planned_run.purpose = 'full' AND run.status = 'done' AND (
        -- Two experiments may share a run, each with a set of its own.
        judged.validation_id NOT IN (SELECT parent FROM edge WHERE role = 'judged_on')
        OR ('experiment:' || planned_run.experiment, judged.validation_id) IN (
            SELECT (child, parent) FROM edge WHERE role = 'judged_on'))
    QUALIFY row_number() OVER (
        PARTITION BY planned_run.experiment, run.run_id, judged.validation_id,
            judged.metric_version
        ORDER BY steering.validation_id) = 1
    ORDER BY planned_run.experiment, run.budget_tokens, judged.validation_id,
        specialist_loss_nats;

-- Every prediction beside what was measured. Of several comparisons with a baseline, the one over
-- most seeds; without one at the proposal's budget and objective, a prediction waits.
CREATE VIEW calibration AS
    WITH measured AS (
        SELECT comparison.*, (
            SELECT CASE WHEN count(*) = count(run.created_at) THEN min(run.created_at) END
            FROM edge JOIN run ON run.run_id = edge.parent
            JOIN planned_run ON planned_run.run_id = run.run_id
                AND planned_run.experiment = comparison.experiment
            WHERE edge.child = comparison_id AND (edge.role = 'selection_run'
                OR edge.role = 'full_run' AND planned_run.mixture_name = 'proposal')) AS begun_at
        FROM comparison WHERE proposal_value > 0 AND baseline_value > 0
        QUALIFY row_number() OVER (
            PARTITION BY experiment, proposal_id, baseline, objective, tokens
            ORDER BY n_seeds DESC, comparison_id) = 1
    ),
    joined AS (
        SELECT proposal.experiment, proposal.created_at AS predicted_at, proposal.proposal_id,
            proposal.method, proposal.budget_tokens, prediction.quantity, prediction.baseline,
            prediction.value AS predicted, prediction.low, prediction.high,
            ln(measured.proposal_value / measured.baseline_value) AS measured,
            CASE WHEN measured.baseline_value + measured.low > 0
                THEN ln(1 + measured.low / measured.baseline_value) END AS measured_low,
            CASE WHEN measured.baseline_value + measured.high > 0
                THEN ln(1 + measured.high / measured.baseline_value) END AS measured_high,
            (prediction.low + prediction.high) / 2 AS middle,
            sqrt( -- in quadrature: what the prediction does not know, and the full runs' noise
                pow((prediction.high - prediction.low) / 2, 2) + pow(1.645 * measured.noise_sd, 2)
                * (pow(measured.proposal_value, -2) + pow(measured.baseline_value, -2))
                / measured.n_seeds) AS half,
            measured.n_seeds, measured.begun_at
        FROM prediction
        JOIN proposal USING (proposal_id)
        LEFT JOIN measured ON measured.experiment = proposal.experiment
            AND measured.proposal_id = proposal.proposal_id
            AND measured.baseline = prediction.baseline
            AND measured.objective = proposal.objective
            AND measured.tokens = proposal.budget_tokens
    )
    SELECT experiment, predicted_at, proposal_id, method, budget_tokens, quantity, baseline,
        predicted, low, high, middle - half AS scored_low, middle + half AS scored_high,
        measured, measured_low, measured_high, n_seeds, begun_at,
        measured - predicted AS error,
        measured BETWEEN middle - half AND middle + half AS is_covered,
        CASE WHEN measured IS NULL THEN 'waiting'
            WHEN begun_at IS NULL OR predicted_at IS NULL THEN 'time unknown'
            WHEN begun_at < predicted_at THEN 'run came first'
            ELSE 'scored' END AS state
    FROM joined;

-- What a re-fit was said to cost, beside what it cost; NULL until its runs are done.
CREATE VIEW refit_cost AS
    SELECT refit.experiment, refit.refit_id, refit.way, refit_option.n_to_train,
        refit_option.n_to_measure, refit_option.flops AS priced_flops, spent.flops AS measured_flops,
        spent.flops / nullif(refit_option.flops, 0) AS measured_over_priced,
        refit_option.device_seconds AS priced_device_seconds,
        spent.device_seconds AS measured_device_seconds
    FROM refit
    JOIN refit_option ON refit_option.refit_id = refit.refit_id AND refit_option.is_chosen
    LEFT JOIN (
        SELECT decision_id, sum(flops) AS flops, sum(device_seconds) AS device_seconds
        FROM cost GROUP BY decision_id
    ) AS spent ON spent.decision_id = refit.refit_id;

CREATE VIEW cost_by_decision AS
    SELECT decision_id, role, count(DISTINCT run_id) AS n_runs, sum(flops) AS flops,
        sum(device_seconds) AS device_seconds, string_agg(DISTINCT device, ', ') AS devices,
        sum(predicted_flops) AS predicted_flops
    FROM cost GROUP BY decision_id, role;

-- What no longer matches its inputs, and which input changed: of each experiment's current
-- proposal, its comparisons, and the full runs that it was charged for.
CREATE VIEW stale AS
    WITH full_run AS (
        SELECT DISTINCT latest.experiment, cost.run_id
        FROM latest JOIN cost ON cost.decision_id = latest.proposal_id AND cost.role = 'full'
    ),
    compared AS ( -- an older plan's comparisons rest on other runs
        SELECT latest.experiment, latest.proposal_id, comparison.comparison_id
        FROM latest JOIN comparison USING (experiment, proposal_id)
        WHERE (SELECT list(parent ORDER BY parent) FROM edge
                WHERE child = comparison.comparison_id AND role = 'full_run')
            = (SELECT list(run_id ORDER BY run_id) FROM full_run
                WHERE full_run.experiment = latest.experiment)
    ),
    rests_on AS (
        SELECT experiment, proposal_id AS thing, 'proposal' AS thing_kind, proposal_id AS owner
            FROM latest
        UNION ALL SELECT experiment, run_id, 'run', run_id FROM full_run
        UNION ALL SELECT experiment, comparison_id, 'comparison', comparison_id FROM compared
        UNION ALL SELECT experiment, comparison_id, 'comparison', proposal_id FROM compared
        UNION ALL SELECT compared.experiment, comparison_id, 'comparison', full_run.run_id
            FROM compared JOIN full_run USING (experiment)
    ),
    past AS (
        SELECT DISTINCT experiment, thing, thing_kind, kind, name, value
        FROM rests_on JOIN input USING (owner)
        WHERE 'experiment:' || experiment IN (SELECT owner FROM input)
    ),
    present AS (
        SELECT owner[12:] AS experiment, kind, name, value FROM input
        WHERE owner LIKE 'experiment:%'
    )
    SELECT thing, thing_kind, experiment, kind AS input_kind, name AS input_name,
        past.value AS was, present.value AS now,
        CASE WHEN present.value IS NULL THEN 'removed' ELSE 'changed' END AS change
    FROM past LEFT JOIN present USING (experiment, kind, name)
    WHERE past.value IS DISTINCT FROM present.value
    UNION ALL
    SELECT thing, thing_kind, experiment, kind, name, NULL, present.value, 'added'
    FROM (SELECT DISTINCT thing, thing_kind, experiment, kind FROM past) AS things
    JOIN present USING (experiment, kind)
    ANTI JOIN past USING (thing, experiment, kind, name)
    WHERE kind <> 'code'; -- a run does not rest on every step's code
