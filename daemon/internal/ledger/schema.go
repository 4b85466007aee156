package ledger

import (
	"context"
	"fmt"
)

// migrations lead from one user_version to the next. They are never changed,
// only added to: boxes in the field have run them.
var migrations = []string{
	// 1: a source is /site/line/station.
	`
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;

-- Accepted triggers. draft is the record as far as it was known then, and
-- empty once there is a record.
CREATE TABLE triggers (
	trigger_id TEXT PRIMARY KEY,
	source     TEXT NOT NULL,
	accepted   INTEGER NOT NULL, -- Unix milliseconds
	finished   INTEGER NOT NULL DEFAULT 0,
	draft      TEXT NOT NULL
);
CREATE INDEX triggers_unfinished ON triggers (source, accepted) WHERE finished = 0;
CREATE INDEX triggers_by_age ON triggers (accepted);

-- The first reply to every command that had an id.
CREATE TABLE commands (
	source     TEXT NOT NULL,
	command_id TEXT NOT NULL,
	replied    INTEGER NOT NULL, -- Unix milliseconds
	reply      TEXT NOT NULL,
	PRIMARY KEY (source, command_id)
) WITHOUT ROWID;
CREATE INDEX commands_by_age ON commands (replied);

-- Terminal records, one for each trigger.
CREATE TABLE results (
	result_id  TEXT PRIMARY KEY,
	trigger_id TEXT NOT NULL UNIQUE REFERENCES triggers,
	source     TEXT NOT NULL,
	sequence   INTEGER NOT NULL,
	evaluation TEXT NOT NULL,
	finished   INTEGER NOT NULL, -- Unix milliseconds
	record     TEXT NOT NULL,
	UNIQUE (source, sequence)
);
CREATE INDEX results_by_age ON results (finished);

-- The last sequence given; results may be removed by age.
CREATE TABLE sequences (source TEXT PRIMARY KEY, last INTEGER NOT NULL) WITHOUT ROWID;

-- Verdicts that the MES does not have yet.
CREATE TABLE outbox (
	source    TEXT NOT NULL,
	sequence  INTEGER NOT NULL,
	result_id TEXT NOT NULL,
	entered   INTEGER NOT NULL, -- Unix milliseconds
	PRIMARY KEY (source, sequence)
) WITHOUT ROWID;

-- Counters that only grow. kind: trigger, evaluation, reason, refusal.
CREATE TABLE counters (
	source TEXT NOT NULL,
	kind   TEXT NOT NULL,
	name   TEXT NOT NULL,
	count  INTEGER NOT NULL,
	PRIMARY KEY (source, kind, name)
) WITHOUT ROWID;

-- Pictures that are stored, by their path below the pictures' folder.
CREATE TABLE images (
	trigger_id TEXT PRIMARY KEY,
	path       TEXT NOT NULL,
	bytes      INTEGER NOT NULL,
	ok         INTEGER NOT NULL, -- of a part that was OK: these go first
	stored     INTEGER NOT NULL  -- Unix milliseconds
);
CREATE INDEX images_by_age ON images (ok DESC, stored);

-- What people say of results: appended, never changed.
CREATE TABLE reviews (
	review_id TEXT PRIMARY KEY,
	result_id TEXT NOT NULL REFERENCES results,
	reviewed  INTEGER NOT NULL, -- Unix milliseconds
	review    TEXT NOT NULL
);
CREATE INDEX reviews_by_result ON reviews (result_id);
`,
	// 2: acknowledgements by the MES, parts of several views, attempts, digests.
	// Counters of purposes beside production have the kinds PURPOSE/trigger and
	// PURPOSE/evaluation.
	`
-- A trigger of kind part stands for the views of one part; its source is the
-- part's, its record combines theirs. part_trigger names it at each view.
ALTER TABLE triggers ADD COLUMN kind TEXT NOT NULL DEFAULT 'view'; -- view | part
ALTER TABLE triggers ADD COLUMN part_id TEXT;
ALTER TABLE triggers ADD COLUMN measurement_id TEXT;
ALTER TABLE triggers ADD COLUMN view TEXT;
ALTER TABLE triggers ADD COLUMN purpose TEXT NOT NULL DEFAULT 'production';
ALTER TABLE triggers ADD COLUMN attempt INTEGER NOT NULL DEFAULT 1;
ALTER TABLE triggers ADD COLUMN part_trigger TEXT;
ALTER TABLE triggers ADD COLUMN deadline INTEGER; -- of a part, Unix milliseconds
ALTER TABLE triggers ADD COLUMN views TEXT;       -- of a part: the names of its views in order, a JSON list
UPDATE triggers SET (part_id, measurement_id, view, purpose) = (
	SELECT record ->> '$.part.id', record ->> '$.measurement_id', record ->> '$.view', coalesce(record ->> '$.purpose', 'production') FROM (
		SELECT CASE WHEN json_valid(record) THEN record ELSE '{}' END AS record FROM (
			SELECT coalesce((SELECT record FROM results WHERE results.trigger_id = triggers.trigger_id), triggers.draft) AS record)))
	WHERE draft <> '' OR trigger_id IN (SELECT trigger_id FROM results);
-- Records of version 1 all say attempt 1; here the attempts go on.
UPDATE triggers SET attempt = numbered.attempt FROM (
	SELECT trigger_id AS id, row_number() OVER (PARTITION BY source, part_id, measurement_id, view,
		CASE purpose WHEN 'reinspection' THEN 'production' ELSE purpose END ORDER BY rowid) AS attempt
	FROM triggers WHERE part_id IS NOT NULL) AS numbered
	WHERE triggers.trigger_id = numbered.id;
CREATE INDEX triggers_by_part ON triggers (source, part_id, measurement_id, view, attempt) WHERE part_id IS NOT NULL;
CREATE INDEX triggers_by_part_trigger ON triggers (part_trigger) WHERE part_trigger IS NOT NULL;

-- What the command was; empty for those of earlier versions.
ALTER TABLE commands ADD COLUMN verb TEXT NOT NULL DEFAULT '';

-- Hex SHA-256 of the record; empty for those of earlier versions.
ALTER TABLE results ADD COLUMN digest TEXT NOT NULL DEFAULT '';

-- published is when it was last sent (Unix milliseconds, null: never), tries how
-- often, due when it is sent again without an acknowledgement. parked says that
-- people should look: the MES did not acknowledge it, or rejected it, for a reason.
ALTER TABLE outbox ADD COLUMN published INTEGER;
ALTER TABLE outbox ADD COLUMN tries INTEGER NOT NULL DEFAULT 0;
ALTER TABLE outbox ADD COLUMN due INTEGER;
ALTER TABLE outbox ADD COLUMN parked TEXT; -- unacknowledged | rejected
ALTER TABLE outbox ADD COLUMN reason TEXT;
CREATE INDEX outbox_by_result ON outbox (result_id);
CREATE INDEX outbox_due ON outbox (source, due) WHERE due IS NOT NULL;
CREATE INDEX outbox_parked ON outbox (source, parked) WHERE parked IS NOT NULL;
`,
}

// migrate brings the tables to this version's form, in one transaction a step.
func (l *Ledger) migrate(ctx context.Context) error {
	tx := transaction{ctx, l.writer}
	var version int
	if err := l.writer.QueryRowContext(ctx, `PRAGMA user_version`).Scan(&version); err != nil {
		return err
	}
	if version > len(migrations) {
		return fmt.Errorf("written by a newer gladd (user_version %d, this one knows up to %d); "+
			"install that version again, or give this one a ledger of its own", version, len(migrations))
	}
	for ; version < len(migrations); version++ {
		if err := tx.exec(`BEGIN IMMEDIATE`); err != nil {
			return err
		}
		err := tx.exec(migrations[version] + fmt.Sprintf("PRAGMA user_version = %d;", version+1))
		if err == nil {
			err = tx.exec(`COMMIT`)
		}
		if err != nil {
			return fmt.Errorf("migrate from user_version %d to %d: %w", version, version+1, tx.undo(err))
		}
	}
	return nil
}
