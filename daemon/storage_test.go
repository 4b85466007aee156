package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"gladd/daemon/internal/mes/mestest"
)

// smallDisk makes a box whose ledger is on a small file system of its own.
func smallDisk(t *testing.T, broker, size, more string) (config, disk string) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root, to mount a small file system")
	}
	s := newSite(t, broker)
	disk = filepath.Join(s.dir, "disk")
	if err := os.Mkdir(disk, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", disk, "tmpfs", 0, "size="+size); err != nil {
		t.Fatalf("mount a file system: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(disk, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	config = s.config(oneStation)
	text, err := os.ReadFile(config)
	if err != nil {
		t.Fatal(err)
	}
	changed := strings.Replace(string(text), "{path: ledger.db}", "{path: disk/ledger.db, "+more+"}", 1)
	if err := os.WriteFile(config, []byte(changed), 0o600); err != nil {
		t.Fatal(err)
	}
	return config, disk
}

// A station whose triggers cannot be recorded refuses them, and takes them again
// when there is room: without a restart, and without a trigger.
func TestFullDiskAndBack(t *testing.T) {
	broker := mestest.StartMosquitto(t)
	listener := mestest.Listen(t, broker.URL())
	config, disk := smallDisk(t, broker.URL(), "4m", "min_free: 1MiB, images: {keep: none}")
	p := start(t, config)
	listener.Wait("st-01/state", mestest.Last(`"Ready"`))
	filler, err := os.Create(filepath.Join(disk, "filler"))
	if err != nil {
		t.Fatal(err)
	}
	for err == nil { // until there is not a byte left
		_, err = filler.Write(make([]byte, 4096))
	}
	filler.Close()
	accepted, refused := 0, "" // what was reserved before is used up first
	for i := 0; refused == "" && i < 300; i++ {
		listener.Send(start01, fmt.Sprintf(`{"context":{"filler":%q}}`, strings.Repeat("x", 2000)), false)
		reply := listener.Wait("cmd/start/reply", mestest.Count(i+1))[i]
		switch {
		case reply.JSON(t)["accepted"] == true:
			accepted++
		case !strings.Contains(reply.Payload, `"busy"`):
			refused = reply.Payload
		}
	}
	if !strings.Contains(refused, `"code":"ledger"`) || !strings.Contains(refused, "database or disk is full") {
		t.Fatalf("want a refusal for want of a ledger, found %s", refused)
	}
	listener.Wait("st-01/state", mestest.Last(`"Error"`))
	if state := listener.Messages("st-01/state"); !strings.Contains(state[len(state)-1].Payload, "disk is full") {
		t.Errorf("want the reason told, found %s", state[len(state)-1].Payload)
	}
	if err := os.Remove(filler.Name()); err != nil {
		t.Fatal(err)
	}
	listener.Wait("st-01/state", mestest.Last(`"Ready"`))
	listener.Send(start01, `{}`, false)
	mestest.CheckOrder(t, listener.Wait("/verdict", mestest.Distinct(accepted+1)), accepted+1)
	if code := p.end(); code != 0 {
		t.Errorf("exit code %d:\n%s", code, p.errors())
	}
}

// Pictures that are kept make room for records.
func TestPicturesMakeRoom(t *testing.T) {
	broker := mestest.StartMosquitto(t)
	listener := mestest.Listen(t, broker.URL())
	config, disk := smallDisk(t, broker.URL(), "8m", "min_free: 2MiB")
	p := start(t, config)
	listener.Wait("st-01/state", mestest.Last(`"Ready"`))
	send := func(count int) {
		listener.Send(start01, `{}`, false)
		listener.Wait("/verdict", mestest.Count(count))
	}
	kept := func() int {
		files, err := filepath.Glob(filepath.Join(disk, "images", "*", "*", "*.png"))
		if err != nil {
			t.Fatal(err)
		}
		return len(files)
	}
	for i := range 3 {
		send(i + 1)
	}
	if kept() != 3 {
		t.Fatalf("want 3 pictures, found %d", kept())
	}
	if err := os.WriteFile(filepath.Join(disk, "filler"), make([]byte, 13<<19), 0o600); err != nil { // 1.5 MiB are left, or less
		t.Fatal(err)
	}
	send(4)
	p.logged("too little space", "error")
	verdicts := listener.Messages("/verdict")
	if image := verdicts[3].JSON(t)["data"].(map[string]any)["image"].(map[string]any); image["kept"] != false {
		t.Errorf("want the fourth not kept, found %v", image)
	}
	if kept() != 0 {
		t.Errorf("want all pictures gone, found %d", kept())
	}
	if err := os.Remove(filepath.Join(disk, "filler")); err != nil {
		t.Fatal(err)
	}
	send(5)
	if kept() != 1 {
		t.Errorf("want pictures kept again, found %d", kept())
	}
}

// People see what the MES does not answer.
func TestUnacknowledged(t *testing.T) {
	t.Parallel() // it waits for what is published every few seconds
	broker := mestest.StartMosquitto(t)
	listener := mestest.Listen(t, broker.URL())
	s := newSite(t, broker.URL())
	config := s.config(oneStation)
	text, err := os.ReadFile(config)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(config, []byte(strings.Replace(string(text), "mqtt: {", "mqtt: {require_ack: true, ack_timeout: 100ms, ", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	p := start(t, config)
	listener.Wait("st-01/state", mestest.Last(`"Ready"`))
	for range 3 {
		listener.Send(start01, `{}`, false)
	}
	verdicts := listener.Wait("/verdict", mestest.Distinct(3))
	id := verdicts[0].JSON(t)["id"]
	listener.Send("insp/v1/p/l/st-01/ack", fmt.Sprintf(`{"result_id":%q,"status":"rejected","reason":"no order"}`, id), false)
	listener.Wait("st-01/health", mestest.Last("2 verdicts of st-01 were not acknowledged by the MES"))
	health := listener.Wait("st-01/health", mestest.Last("1 verdict of st-01 was rejected by the MES"))
	outbox := health[len(health)-1].JSON(t)["outbox"].(map[string]any)
	if outbox["count"] != 2.0 || outbox["unacknowledged"] != 2.0 || outbox["rejected"] != 1.0 || outbox["oldest_s"].(float64) <= 0 {
		t.Errorf("found %v", outbox)
	}
	_, metrics := p.get("GET", "/metrics", "")
	for _, want := range []string{
		`gladd_outbox_length{station="st-01"} 2`, `gladd_outbox_parked{reason="unacknowledged",station="st-01"} 2`, `gladd_outbox_parked{reason="rejected",station="st-01"} 1`,
	} {
		if !strings.Contains(metrics, want+"\n") {
			t.Errorf("no %s", want)
		}
	}
	for _, message := range listener.Messages("/verdict") {
		listener.Send("insp/v1/p/l/st-01/ack", fmt.Sprintf(`{"result_id":%q,"status":"accepted"}`, message.JSON(t)["id"]), false)
	}
	listener.Wait("st-01/health", mestest.Last(`"outbox":{"count":0,"oldest_s":0,"unacknowledged":0,"rejected":0}`))
	if code := p.end(); code != 0 {
		t.Errorf("exit code %d:\n%s", code, p.errors())
	}
}
