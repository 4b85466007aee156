// Package ledger is the durable memory of the daemon: every trigger that was
// accepted, the one terminal record that each of them gets, the replies to
// commands, and the outbox of verdicts that the MES does not have yet. It is
// one SQLite file; pictures lie beside it.
package ledger

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"syscall"

	_ "github.com/mattn/go-sqlite3" // the driver "sqlite3"
	"github.com/oklog/ulid/v2"
)

// Options of a ledger.
type Options struct {
	// Path of the SQLite file; it is made where it is missing.
	Path string
}

// Ledger is an open ledger. Its methods are safe for concurrent use.
type Ledger struct {
	id         string
	path       string
	lock       *os.File
	background context.Context // of writes

	writes  *sql.DB
	writer  *sql.Conn // the one connection that writes
	reads   *sql.DB
	pending chan *operation
	ended   chan struct{} // closed when the writer has ended
	closed  sync.Once
	closing chan struct{} // closed when the end begins
	healed  chan struct{} // closed when nobody looks after a broken ledger any more
	// stopping keeps operations out of pending once it is closed.
	stopping sync.RWMutex
	stopped  bool

	unsettled unsettled
	parts     openParts
	waiting   counts
	health    health

	watching sync.Mutex
	watchers map[int]func(source string)
	watchID  int

	refusals refusals
}

// ErrClosed is the error of a ledger that was closed.
var ErrClosed = errors.New("ledger: closed")

// Open opens a ledger, makes or migrates its tables, and keeps every other
// process out.
func Open(ctx context.Context, options Options) (*Ledger, error) {
	l, err := open(ctx, options.Path)
	if err != nil {
		if pathError := (*fs.PathError)(nil); errors.As(err, &pathError) && pathError.Path == options.Path {
			err = pathError.Err
		}
		err = fmt.Errorf("ledger %s: %w", options.Path, err)
		if errors.Is(err, fs.ErrPermission) {
			err = fmt.Errorf("%w; name a file in a folder of yours: ledger: {path: …}", err)
		}
		return nil, err
	}
	return l, nil
}

func open(ctx context.Context, path string) (l *Ledger, err error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		return nil, err
	}
	l = &Ledger{
		path:       path,
		background: context.WithoutCancel(ctx),
		pending:    make(chan *operation, maxBatch),
		ended:      make(chan struct{}),
		closing:    make(chan struct{}),
		healed:     make(chan struct{}),
		watchers:   map[int]func(string){},
		health:     health{failed: make(chan struct{}, 1), watchers: map[int]func(){}, probeEvery: probeEvery},
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, l.release())
			l = nil
		}
	}()
	if l.lock, err = lockFile(path + ".lock"); err != nil {
		return l, err
	}
	if l.writes, err = openDatabase(path, "rwc", ""); err != nil {
		return l, err
	}
	if l.writer, err = l.writes.Conn(ctx); err != nil {
		return l, err
	}
	if err := l.migrate(ctx); err != nil {
		return l, err
	}
	if l.reads, err = openDatabase(path, "ro", "_query_only=1"); err != nil {
		return l, err
	}
	l.reads.SetMaxOpenConns(4)
	if err := l.identify(ctx); err != nil {
		return l, err
	}
	if err := l.loadParts(ctx); err != nil {
		return l, err
	}
	go l.write()
	go l.heal()
	return l, nil
}

// openDatabase opens the file in write-ahead mode. FULL makes every commit
// durable before it returns (sqlite.org/pragma.html, synchronous).
func openDatabase(path, mode, more string) (*sql.DB, error) {
	absolute, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	address := url.URL{
		Scheme:   "file",
		Path:     absolute,
		RawQuery: "mode=" + mode + "&_journal_mode=WAL&_synchronous=FULL&_busy_timeout=5000&_foreign_keys=1&" + more,
	}
	if mode == "ro" {
		address.RawQuery = "mode=ro&_busy_timeout=5000&" + more
	}
	return sql.Open("sqlite3", address.String())
}

// lockFile takes a lock that ends with the process, however that ends.
func lockFile(path string) (*os.File, error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o640)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		file.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, errors.New("another gladd uses it; end that one, or give this one a ledger of its own")
		}
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return file, nil
}

// identify gives a new ledger its id and reads that of an old one.
func (l *Ledger) identify(ctx context.Context) error {
	_, err := l.writer.ExecContext(ctx, `INSERT INTO meta (key, value) VALUES ('ledger_id', ?) ON CONFLICT DO NOTHING`, ulid.Make().String())
	if err != nil {
		return err
	}
	return l.writer.QueryRowContext(ctx, `SELECT value FROM meta WHERE key = 'ledger_id'`).Scan(&l.id)
}

// ID is the ledger's own id: sequences of different ledgers have nothing to do
// with each other.
func (l *Ledger) ID() string { return l.id }

// Close ends the ledger when all writes under way are done. It may be called
// twice.
func (l *Ledger) Close() error {
	var err error
	l.closed.Do(func() {
		close(l.closing)
		<-l.healed
		l.stopping.Lock()
		l.stopped = true
		l.stopping.Unlock()
		close(l.pending)
		<-l.ended
		err = l.release()
	})
	if err != nil {
		return fmt.Errorf("ledger: close: %w", err)
	}
	return nil
}

func (l *Ledger) release() error {
	var errs []error
	if l.writer != nil {
		errs = append(errs, l.writer.Close())
	}
	// Reads first: the last connection to close folds the log into the file.
	for _, database := range []*sql.DB{l.reads, l.writes} {
		if database != nil {
			errs = append(errs, database.Close())
		}
	}
	if l.lock != nil {
		errs = append(errs, l.lock.Close())
	}
	return errors.Join(errs...)
}

// Watch calls a function with the source of every record that comes into the
// outbox. The function must not block. The returned one ends it.
func (l *Ledger) Watch(call func(source string)) (end func()) {
	l.watching.Lock()
	defer l.watching.Unlock()
	id := l.watchID
	l.watchID++
	l.watchers[id] = call
	return func() {
		l.watching.Lock()
		defer l.watching.Unlock()
		delete(l.watchers, id)
	}
}

func (l *Ledger) tell(source string) {
	l.watching.Lock()
	defer l.watching.Unlock()
	for _, call := range l.watchers {
		call(source)
	}
}
