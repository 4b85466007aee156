package ledger

import (
	"context"
	"database/sql"
	"fmt"
	"time"
)

// maxBatch is how many operations share a commit at most.
const maxBatch = 64

// operation is one write; its error undoes it and nothing else.
type operation struct {
	do   func(transaction) error
	done chan error
}

// commit does a write and returns when it is durable. Writes that wait while
// another is being committed share the next commit: a disk makes far fewer
// commits a second than lines make parts.
func (l *Ledger) commit(do func(transaction) error) error {
	write := &operation{do: do, done: make(chan error, 1)}
	l.stopping.RLock()
	if l.stopped {
		l.stopping.RUnlock()
		return ErrClosed
	}
	l.pending <- write
	l.stopping.RUnlock()
	return <-write.done
}

// yield is called between the steps of a long work: writes that wait go first,
// and others get as much time as the step took.
func (l *Ledger) yield(ctx context.Context, took time.Duration) {
	const look, longest = time.Millisecond, time.Second
	for waited := time.Duration(0); waited < took || len(l.pending) > 0 && waited < longest; waited += look {
		select {
		case <-ctx.Done():
			return
		case <-time.After(look):
		}
	}
}

// write is the one goroutine that writes.
func (l *Ledger) write() {
	defer close(l.ended)
	batch := make([]*operation, 0, maxBatch)
	for first := range l.pending {
		batch = append(batch[:0], first)
	gather:
		for len(batch) < maxBatch {
			select {
			case next, open := <-l.pending:
				if !open {
					break gather
				}
				batch = append(batch, next)
			default:
				break gather
			}
		}
		l.writeBatch(batch)
	}
}

func (l *Ledger) writeBatch(batch []*operation) {
	errs := make([]error, len(batch))
	if err := l.transact(batch, errs); err != nil {
		for i := range errs {
			errs[i] = fmt.Errorf("ledger: %w", err)
		}
		l.health.fail(errs[0])
	} else {
		for i, err := range errs {
			if isBroken(err) {
				errs[i] = fmt.Errorf("ledger: %w", err)
				l.health.fail(errs[i])
			}
		}
	}
	for i, write := range batch {
		write.done <- errs[i]
	}
}

// transact does a batch in one transaction. Errs take the errors of single
// operations; the returned error means that nothing was written.
func (l *Ledger) transact(batch []*operation, errs []error) error {
	tx := transaction{l.background, l.writer}
	if err := tx.exec(`BEGIN IMMEDIATE`); err != nil {
		return err
	}
	for i, write := range batch {
		if err := tx.exec(`SAVEPOINT operation`); err != nil {
			return tx.undo(err)
		}
		if errs[i] = write.do(tx); errs[i] != nil {
			if err := tx.exec(`ROLLBACK TO operation`); err != nil {
				return tx.undo(errs[i]) // its cause is that of the failed undoing, too
			}
		}
		if err := tx.exec(`RELEASE operation`); err != nil {
			return tx.undo(err)
		}
	}
	if err := tx.exec(`COMMIT`); err != nil {
		return tx.undo(err)
	}
	return nil
}

// transaction is the writer's connection within a transaction. It is not a
// [sql.Tx], which forgets a commit that failed, though SQLite may still be
// inside the transaction then.
type transaction struct {
	ctx        context.Context // which never ends: a commit is not abandoned half way
	connection *sql.Conn
}

func (tx transaction) exec(query string, arguments ...any) error {
	_, err := tx.connection.ExecContext(tx.ctx, query, arguments...)
	return err
}

func (tx transaction) row(query string, arguments ...any) *sql.Row {
	return tx.connection.QueryRowContext(tx.ctx, query, arguments...)
}

// undo ends a transaction that failed. SQLite itself has ended it after some
// errors, a full disk among them; then there is nothing left to undo
// (sqlite.org/lang_transaction.html).
func (tx transaction) undo(cause error) error {
	tx.exec(`ROLLBACK`) //nolint:errcheck // see above
	return cause
}
