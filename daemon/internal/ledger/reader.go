package ledger

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"gladd/daemon/internal/verdict"
)

// Reader reads a ledger that a daemon may be using.
type Reader struct {
	path     string
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
		return nil, errors.Join(err, database.Close())
	}
	if version == 0 || version > len(migrations) {
		return nil, errors.Join(fmt.Errorf("expected user_version 1 to %d, found %d; it belongs to a newer gladd, or is no ledger", len(migrations), version), database.Close())
	}
	return &Reader{path: path, database: database}, nil
}

// Close ends the reader.
func (r *Reader) Close() error { return r.database.Close() }

// Query says which results are wanted: those with the ids, or those that were
// finished from a time on until before another, of all sources or one. Limit 0
// is none.
type Query struct {
	ResultIDs    []string
	Since, Until time.Time
	Station      string
	Limit        int
}

// Result is a terminal record, and where its picture lies.
type Result struct {
	Source string
	Record verdict.Record
	// Image is the picture's path below the folder of pictures; empty: none is
	// stored.
	Image string
}

// Results lists results, the oldest first.
func (r *Reader) Results(ctx context.Context, query Query) ([]Result, error) {
	results, err := r.results(ctx, query)
	if err != nil {
		return nil, fmt.Errorf("ledger %s: %w", r.path, err)
	}
	return results, nil
}

func (r *Reader) results(ctx context.Context, query Query) ([]Result, error) {
	where, arguments := []string{"1"}, []any{}
	add := func(condition string, values ...any) {
		where, arguments = append(where, condition), append(arguments, values...)
	}
	if len(query.ResultIDs) > 0 {
		var ids []any
		for _, id := range query.ResultIDs {
			ids = append(ids, id)
		}
		add("result_id IN (?"+strings.Repeat(", ?", len(ids)-1)+")", ids...)
	}
	if !query.Since.IsZero() {
		add("finished >= ?", query.Since.UnixMilli())
	}
	if !query.Until.IsZero() {
		add("finished < ?", query.Until.UnixMilli())
	}
	if query.Station != "" {
		add("substr(results.source, -length(?)) = ?", "/"+query.Station, "/"+query.Station)
	}
	statement := `SELECT results.source, record, coalesce(path, '') FROM results LEFT JOIN images USING (trigger_id)
		WHERE ` + strings.Join(where, " AND ") + ` ORDER BY finished, results.source, sequence`
	if query.Limit > 0 {
		statement += fmt.Sprintf(" LIMIT %d", query.Limit)
	}
	rows, err := r.database.QueryContext(ctx, statement, arguments...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var results []Result
	for rows.Next() {
		var result Result
		var record []byte
		if err := rows.Scan(&result.Source, &record, &result.Image); err != nil {
			return nil, err
		}
		if err := json.Unmarshal(record, &result.Record); err != nil {
			return nil, fmt.Errorf("a record: %w", err)
		}
		results = append(results, result)
	}
	return results, rows.Err()
}
