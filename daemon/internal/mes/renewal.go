package mes

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"
)

// lookAtFiles is how often the broker's files are looked at.
const lookAtFiles = 2 * time.Second

// warnBefore is how long before its end the box's own certificate is warned of.
const warnBefore = 14 * 24 * time.Hour

// errRenewed ends a connection whose files were renewed.
var errRenewed = errors.New("the files of the connection were renewed")

// renewal watches the files that the broker is reached with: certificates are
// renewed while gladd runs.
type renewal struct {
	broker Broker
	log    *slog.Logger
	wall   func() time.Time
	every  time.Duration
	// renewed gets a token when the files are others than those in use, and good.
	renewed chan struct{}

	mutex   sync.Mutex
	used    [sha256.Size]byte // digest of what the last attempt was made with
	own     *x509.Certificate // of that attempt; nil: none
	warning string            // on own; empty: it is valid for long
}

func newRenewal(broker Broker, log *slog.Logger, wall func() time.Time) *renewal {
	return &renewal{broker: broker, log: log, wall: wall, every: lookAtFiles, renewed: make(chan struct{}, 1)}
}

// load reads the files for an attempt to connect.
func (r *renewal) load() (credentials, error) {
	select { // whatever it is, the attempt will have it
	case <-r.renewed:
	default:
	}
	files := r.broker.read()
	r.mutex.Lock()
	r.used = files.digest()
	r.mutex.Unlock()
	loaded, err := r.broker.credentials(files)
	if err != nil {
		return loaded, &Problem{Class: ClassFiles, Text: "a file that the connection needs cannot be used, and is tried again and again: " + err.Error()}
	}
	r.mutex.Lock()
	defer r.mutex.Unlock()
	r.own = nil
	if loaded.own != nil {
		r.own = loaded.own.Leaf
	}
	r.judge()
	return loaded, nil
}

// watch looks at the files until ctx ends. What is found counts when it is
// found twice: whoever renews a certificate and its key writes one of them
// first.
func (r *renewal) watch(ctx context.Context) {
	ticker := time.NewTicker(r.every)
	defer ticker.Stop()
	var before, settled [sha256.Size]byte
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		files := r.broker.read()
		found := files.digest()
		r.mutex.Lock()
		r.judge()
		used := r.used
		r.mutex.Unlock()
		switch {
		case found == used:
			settled = found
		case found == before && found != settled:
			settled = found
			r.settle(files)
		}
		before = found
	}
}

// settle decides on files that are others than those in use.
func (r *renewal) settle(files contents) {
	if _, err := r.broker.credentials(files); err != nil {
		r.log.Warn("the files of the connection to the broker have changed and cannot be used; the connection stays as it is", "error", err)
		return
	}
	select {
	case r.renewed <- struct{}{}:
	default:
	}
}

// judge finds out whether there is to be a warning on the box's own
// certificate. It is told once a day: the text names the days that are left.
func (r *renewal) judge() {
	warning, now := "", r.wall()
	switch {
	case r.own == nil:
	case now.After(r.own.NotAfter):
		warning = fmt.Sprintf("the box's certificate %s expired on %s: renew it; gladd takes the new one by itself", r.broker.CertFile, date(r.own.NotAfter))
	case now.Add(warnBefore).After(r.own.NotAfter):
		left := "in less than two days"
		if days := int(r.own.NotAfter.Sub(now).Hours() / 24); days > 1 {
			left = fmt.Sprintf("in %d days", days)
		}
		warning = fmt.Sprintf("the box's certificate %s expires on %s, %s: renew it; gladd takes the new one by itself", r.broker.CertFile, date(r.own.NotAfter), left)
	}
	if warning != "" && warning != r.warning {
		r.log.Warn(warning)
	}
	r.warning = warning
}

// warnings on what still works.
func (r *renewal) warnings() []string {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	if r.warning == "" {
		return []string{}
	}
	return []string{r.warning}
}
