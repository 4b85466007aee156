package mes

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// Files that come right while there is no connection end the wait for the next
// attempt, once; those that an attempt has used already do not.
func TestRenewalTells(t *testing.T) {
	password := filepath.Join(t.TempDir(), "password")
	write := func(content string) {
		if err := os.WriteFile(password, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	watched := newRenewal(Broker{Username: "u", PasswordFile: password}, slog.New(slog.DiscardHandler), time.Now)
	if _, err := watched.load(); err == nil {
		t.Fatal("a file that is not there was loaded")
	}
	watched.every = 10 * time.Millisecond
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { watched.watch(ctx); close(ended) }()
	write("secret\n")
	select {
	case <-watched.renewed:
	case <-time.After(time.Minute):
		t.Fatal("nobody tells that there is a password now")
	}
	write("another\n")
	if loaded, err := watched.load(); err != nil || loaded.password != "another" {
		t.Fatalf("found %q, %v", loaded.password, err)
	}
	select {
	case <-watched.renewed:
		t.Error("what is in use already is told of")
	case <-time.After(20 * watched.every):
	}
	stop()
	<-ended
}
