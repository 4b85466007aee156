package ledger

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"

	"github.com/mattn/go-sqlite3"
)

// Reader reads a ledger that a daemon may be using. It migrates nothing: an
// earlier version's ledger is read as it is.
type Reader struct {
	path     string
	version  int
	database *sql.DB
}

// OpenReader opens a ledger for reading only.
func OpenReader(ctx context.Context, path string) (*Reader, error) {
	r, err := openReader(ctx, path)
	if err != nil {
		return nil, fmt.Errorf("ledger %s: %w", path, err)
	}
	return r, nil
}

func openReader(ctx context.Context, path string) (*Reader, error) {
	if info, err := os.Stat(path); err != nil {
		return nil, errors.New("no such file")
	} else if !info.Mode().IsRegular() {
		return nil, errors.New("expected a file")
	}
	database, err := openDatabase(path, "ro", "_query_only=1")
	if err != nil {
		return nil, err
	}
	var version int
	if err := database.QueryRowContext(ctx, `PRAGMA user_version`).Scan(&version); err != nil {
		if refused := (sqlite3.Error{}); errors.As(err, &refused) && (refused.Code == sqlite3.ErrReadonly || refused.Code == sqlite3.ErrCantOpen) {
			err = fmt.Errorf("%w; SQLite keeps files beside a ledger that it reads: do it as the user of the daemon, or read a copy in a folder of yours", err)
		}
		return nil, errors.Join(err, database.Close())
	}
	if version == 0 {
		return nil, errors.Join(errors.New("it holds no tables of gladd: it is no ledger, one that no daemon finished making, or a copy without its -wal file"), database.Close())
	}
	if version > len(migrations) {
		return nil, errors.Join(fmt.Errorf("expected user_version 1 to %d, found %d; it belongs to a newer gladd", len(migrations), version), database.Close())
	}
	return &Reader{path: path, version: version, database: database}, nil
}

// Close ends the reader.
func (r *Reader) Close() error { return r.database.Close() }

// likeNow begins a query of an earlier version's ledger: it gives the tables the
// columns that came later.
var likeNow = map[int]string{
	1: `WITH
	triggers AS (SELECT rowid, *, 'view' AS kind, NULL AS part_trigger,
		(SELECT CASE WHEN json_valid(record) THEN record ->> '$.part.id' END FROM main.results WHERE results.trigger_id = triggers.trigger_id) AS part_id FROM main.triggers),
	results AS (SELECT rowid, *, '' AS digest FROM main.results),
	outbox AS (SELECT *, NULL AS published, 0 AS tries, NULL AS parked, NULL AS reason FROM main.outbox)
`,
}

// tables are a ledger's, in this version's form.
type tables struct {
	queries
	likeNow string
}

func (t tables) row(ctx context.Context, query string, arguments ...any) *sql.Row {
	return t.QueryRowContext(ctx, t.likeNow+query, arguments...)
}

// each is [each] of the tables.
func (t tables) each(ctx context.Context, found func(*sql.Rows) error, query string, arguments ...any) error {
	return each(ctx, t.queries, found, t.likeNow+query, arguments...)
}

// newest are the tables as they are at each query.
func (r *Reader) newest() tables { return tables{r.database, likeNow[r.version]} }

// Path is the ledger's file.
func (r *Reader) Path() string { return r.path }

// snapshot calls a function with the tables of one state. As long as it runs,
// the daemon's log of writes grows.
func (r *Reader) snapshot(ctx context.Context, read func(tables) error) error {
	tx, err := r.database.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback() //nolint:errcheck // nothing was written
	return read(tables{tx, likeNow[r.version]})
}

// failed names the ledger.
func (r *Reader) failed(err error) error { return fmt.Errorf("ledger %s: %w", r.path, err) }

// usage says who works on a ledger.
type usage int

const (
	unused usage = iota
	inUse        // by a daemon
	copied       // no daemon ever used it where it lies
)

// usage looks at the daemons' lock. It holds that itself for a moment, if it is
// free.
func (r *Reader) usage() (usage, error) {
	file, err := os.Open(r.path + ".lock")
	if errors.Is(err, fs.ErrNotExist) {
		return copied, nil
	}
	if err != nil {
		return unused, fmt.Errorf("does a daemon use it? %w; verify it as the user of the daemon, or say --stopped if none does", err)
	}
	defer file.Close()
	err = syscall.Flock(int(file.Fd()), syscall.LOCK_SH|syscall.LOCK_NB)
	switch {
	case errors.Is(err, syscall.EWOULDBLOCK):
		return inUse, nil
	case err != nil:
		return unused, fmt.Errorf("does a daemon use it? lock %s: %w", file.Name(), err)
	}
	return unused, nil
}
