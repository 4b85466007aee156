// Package web is the daemon's HTTP side: whether it lives, whether it can
// inspect, its metrics, and starting inspections.
package web

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"gladd/daemon/internal/verdict"
)

// Station is what the server needs of a station.
type Station interface {
	Name() string
	Source() string
	Command(ctx context.Context, verb verdict.Verb, payload []byte, received time.Time) verdict.Reply
	// Wait returns a trigger's terminal record as JSON.
	Wait(ctx context.Context, triggerID string) ([]byte, error)
}

// Options of the server.
type Options struct {
	Listen string
	Token  string // that clients must send; empty: none
	// Ready says why the daemon cannot inspect; empty: it can.
	Ready func() []string
	// Health describes the daemon for /healthz.
	Health func() any
	Log    *slog.Logger
}

// Server is the daemon's HTTP server.
type Server struct {
	options  Options
	opened   atomic.Pointer[http.ServeMux] // metrics and commands; nil: not yet
	server   *http.Server
	listener net.Listener
	ended    chan error
}

// Start listens. Until Open is called the server says how the daemon is, and
// answers all else with 503.
func Start(options Options) (*Server, error) {
	listener, err := net.Listen("tcp", options.Listen)
	if err != nil {
		return nil, fmt.Errorf("web listener: %w", err)
	}
	s := &Server{options: options, listener: listener, ended: make(chan error, 1)}
	s.server = &http.Server{
		Handler:           s.handler(),
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(options.Log.Handler(), slog.LevelDebug),
	}
	go func() { s.ended <- s.server.Serve(listener) }()
	return s, nil
}

// Address is where the server listens.
func (s *Server) Address() string { return s.listener.Addr().String() }

// Close answers what was asked, as long as ctx allows, and ends.
func (s *Server) Close(ctx context.Context) error {
	err := s.server.Shutdown(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		s.options.Log.Error("an HTTP request is still being answered; it is left to the end of the process")
		err = s.server.Close()
	}
	if ended := <-s.ended; !errors.Is(ended, http.ErrServerClosed) {
		err = errors.Join(err, ended)
	}
	s.ended <- http.ErrServerClosed // for a second call
	return err
}

func (s *Server) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, http.StatusOK, s.options.Health())
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		reasons := s.options.Ready()
		status := http.StatusOK
		if len(reasons) > 0 {
			status = http.StatusServiceUnavailable
		} else {
			reasons = []string{}
		}
		writeJSON(w, status, map[string]any{"ready": len(reasons) == 0, "reasons": reasons})
	})
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		if opened := s.opened.Load(); opened != nil {
			opened.ServeHTTP(w, r)
			return
		}
		w.Header().Set("Retry-After", "5")
		writeJSON(w, http.StatusServiceUnavailable, problem{strings.Join(s.options.Ready(), "; ")})
	})
	return s.authorize(mux)
}

// Open has the server take commands to stations and show metrics.
func (s *Server) Open(stations []Station, metrics *Metrics) {
	byName := map[string]Station{}
	for _, station := range stations {
		byName[station.Name()] = station
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(metrics.registry, promhttp.HandlerOpts{}))
	for _, verb := range verdict.Verbs {
		mux.HandleFunc("POST /api/v1/stations/{name}/"+string(verb), func(w http.ResponseWriter, r *http.Request) {
			name := r.PathValue("name")
			station, known := byName[name]
			if !known {
				writeJSON(w, http.StatusNotFound, problem{fmt.Sprintf("no such station: %q", name)})
				return
			}
			s.command(station, verb, w, r)
		})
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		writeJSON(w, http.StatusNotFound, problem{"no such page: " + r.Method + " " + r.URL.Path})
	})
	s.opened.Store(mux)
}

type problem struct {
	Error string `json:"error"`
}

// authorize lets in who sends the token; whether the daemon lives may be asked
// by everyone.
func (s *Server) authorize(next http.Handler) http.Handler {
	if s.options.Token == "" {
		return next
	}
	want := sha256.Sum256([]byte(s.options.Token))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		token, bearer := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		found := sha256.Sum256([]byte(token))
		if r.URL.Path != "/healthz" && (!bearer || subtle.ConstantTimeCompare(want[:], found[:]) != 1) {
			w.Header().Set("WWW-Authenticate", `Bearer realm="gladd"`)
			writeJSON(w, http.StatusUnauthorized, problem{"expected the header 'Authorization: Bearer TOKEN' with the token of web.token_file"})
			return
		}
		next.ServeHTTP(w, r)
	})
}

// command is a command over HTTP.
func (s *Server) command(station Station, verb verdict.Verb, w http.ResponseWriter, r *http.Request) {
	received := time.Now()
	wait := r.URL.Query().Get("wait")
	if wait != "" && wait != "true" && wait != "false" {
		writeJSON(w, http.StatusBadRequest, problem{fmt.Sprintf("wait: expected true or false, found %q", wait)})
		return
	}
	if wait == "true" && verb != verdict.VerbStart {
		writeJSON(w, http.StatusBadRequest, problem{"wait: belongs to start; every other command is answered when it is done"})
		return
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, verdict.MaxCommandBytes+1))
	if err != nil {
		writeJSON(w, http.StatusBadRequest, problem{"the body cannot be read: " + err.Error()})
		return
	}
	if len(body) == 0 {
		body = []byte("{}")
	}
	// Not the request's: a recipe is not half prepared because somebody hung up.
	reply := station.Command(context.WithoutCancel(r.Context()), verb, body, received)
	if !reply.Accepted {
		if reply.Reason.Code == verdict.RefusedBusy {
			w.Header().Set("Retry-After", "1")
		}
		writeJSON(w, statusOf(reply.Reason.Code), reply)
		return
	}
	switch {
	case reply.TriggerID == nil:
		writeJSON(w, http.StatusOK, reply)
		return
	case wait != "true":
		writeJSON(w, http.StatusAccepted, reply)
		return
	}
	record, err := station.Wait(r.Context(), *reply.TriggerID)
	if err == nil {
		record, err = verdict.Event(station.Source(), record)
	}
	if err != nil {
		// The trigger stays accepted; its verdict comes over MQTT.
		s.options.Log.Debug("wait for a verdict ended", "station", station.Name(), "error", err)
		writeJSON(w, http.StatusServiceUnavailable, problem{"the trigger " + *reply.TriggerID + " was accepted, but its verdict could not be waited for: " + err.Error()})
		return
	}
	w.Header().Set("Content-Type", verdict.ContentType)
	w.Write(record) //nolint:errcheck // who has gone needs no answer
}

// statusOf is the HTTP status of a refusal.
func statusOf(code verdict.RefusalCode) int {
	switch code {
	case verdict.RefusedInvalid:
		return http.StatusBadRequest
	case verdict.RefusedUnknownRecipe, verdict.RefusedExpired, verdict.RefusedModel, verdict.RefusedAttempts:
		return http.StatusConflict
	}
	return http.StatusServiceUnavailable
}

func writeJSON(w http.ResponseWriter, status int, value any) {
	content, err := verdict.JSON(value)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	w.Write(append(content, '\n')) //nolint:errcheck // who has gone needs no answer
}
