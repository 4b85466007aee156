package main

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"gladd/daemon/internal/mes"
	"gladd/daemon/internal/mes/mestest"
	"gladd/engines/enginetest"
)

// connection asks /healthz for the connection until it is as wanted.
func (p *process) connection(wanted func(mes.Connection) bool) mes.Connection {
	p.t.Helper()
	timeout := time.After(mestest.Patience)
	for {
		status, content := p.get("GET", "/healthz", "")
		var health struct {
			MQTT *mes.Connection `json:"mqtt"`
		}
		if err := json.Unmarshal([]byte(content), &health); status != 200 || err != nil || health.MQTT == nil {
			p.t.Fatalf("found %d, %s", status, content)
		}
		if wanted(*health.MQTT) {
			return *health.MQTT
		}
		select {
		case <-timeout:
			p.t.Fatalf("what was waited for did not come: %s", content)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// Whoever asks is told why there is no connection, and of what is about to end
// one.
func TestConnectionHealth(t *testing.T) {
	broker := mestest.NewMosquitto(t)
	p := start(t, newSite(t, broker.URL()).config(oneStation))
	found := p.connection(func(found mes.Connection) bool { return found.Attempts > 1 })
	if found.Connected || *found.Class != mes.ClassRefused || !strings.HasPrefix(*found.Reason, "nothing listens at "+strings.TrimPrefix(broker.URL(), "mqtt://")+": start the broker") {
		t.Errorf("found %+v, %s", found, *found.Reason)
	}
	broker.Start()
	online := p.connection(func(found mes.Connection) bool { return found.Connected })
	if online.Class != nil || online.Reason != nil || online.Attempts != 0 || online.Since.Before(found.Since.Time) {
		t.Errorf("found %+v", online)
	}
	if _, content := p.get("GET", "/healthz", ""); !strings.Contains(content, `"mqtt":{"connected":true,"class":null,"reason":null,"since":"`) || !strings.Contains(content, `"attempts":0,"warnings":[]}`) {
		t.Errorf("found %s", content)
	}
}

func TestCertificateHealth(t *testing.T) {
	broker := mestest.StartMutual(t, mestest.Certificate{To: time.Now().Add(5*24*time.Hour + time.Minute)})
	listener := mestest.Listen(t, broker.URL())
	config := newSite(t, broker.BoxURL).config(oneStation)
	text := strings.Replace(string(enginetest.ReadFile(t, config)), "mqtt: {",
		`mqtt: {ca_file: "`+broker.Authority.File+`", cert_file: "`+broker.CertFile+`", key_file: "`+broker.KeyFile+`", `, 1)
	enginetest.WriteFile(t, config, []byte(text))
	p := start(t, config)
	found := p.connection(func(found mes.Connection) bool { return found.Connected })
	if len(found.Warnings) != 1 || !strings.Contains(found.Warnings[0], ", in 5 days: renew it") {
		t.Errorf("found %v", found.Warnings)
	}
	health := listener.Wait("st-01/health", mestest.Count(1))[0].JSON(t)
	if reasons := health["reasons"].([]any); len(reasons) != 1 || reasons[0] != found.Warnings[0] {
		t.Errorf("found %v", reasons)
	}
}
