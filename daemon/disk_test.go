package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"gladd/daemon/internal/mes/mestest"
)

// A disk that is full loses nothing: triggers are refused and not inspected,
// everybody is told, and it goes on by itself when there is room again.
func TestFaultFullDisk(t *testing.T) {
	if os.Getuid() != 0 {
		unavailable(t, "needs root, to mount a small file system")
	}
	broker := mestest.StartDurable(t)
	l := newLine(t, broker.URL(), 3)
	disk := filepath.Join(l.dir, "disk")
	if err := os.Mkdir(disk, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", disk, "tmpfs", 0, "size=32m"); err != nil {
		unavailable(t, "mount a file system: %v", err)
	}
	t.Cleanup(func() { syscall.Unmount(disk, syscall.MNT_DETACH) }) //nolint:errcheck // the test is over
	// Pictures have room: each is of a part that somebody inspected.
	l.ledger = filepath.Join(disk, "ledger.db")
	mes := mestest.NewMES(t, broker.URL(), mestest.MESOptions{})
	broker.Save()
	listener := mestest.Listen(t, broker.URL())
	p := start(t, l.write())
	panel := newPanel(p, nil)

	// run triggers for a while and until something is so.
	run := func(what string, so func() bool) {
		t.Helper()
		stop := panel.run(l.stations, 20*time.Millisecond)
		defer stop()
		time.Sleep(scale(300*time.Millisecond, 2*time.Second)) // a moment, not an event: triggers come meanwhile
		mestest.Eventually(t, what, so)
	}
	accepted := func() int { total, _ := panel.counts(); return total }
	for round := range scale(1, 5) {
		before := accepted()
		run("accepted", func() bool { return accepted() > before+5 })
		filler := fill(t, disk)
		refused := panel.refusals("ledger")
		run("refused: ledger", func() bool { return panel.refusals("ledger") > refused+5 })
		if status, content := panel.get("/readyz"); status != 503 || !strings.Contains(content, "ledger: ") {
			t.Errorf("found %d, %s", status, content)
		}
		for _, station := range l.stations {
			listener.Wait(station+"/state", mestest.Last(`"Error","reason":"ledger: `))
		}
		if round%2 == 1 { // who connects now is told, too
			broker.Kill()
			broker.Start()
			mes.WaitConnected()
			listener.Wait(l.stations[0]+"/state", func(messages []mestest.Message) bool {
				last := messages[len(messages)-1].JSON(t)
				return last["state"] == "Error" && last["session"].(float64) > float64((round+1)/2)
			})
		}
		if err := os.Remove(filler); err != nil {
			t.Fatal(err)
		}
		// Nobody triggers now.
		mestest.Eventually(t, "ready again", func() bool { status, _ := panel.get("/readyz"); return status == 200 })
		for _, station := range l.stations {
			listener.Wait(station+"/state", mestest.Last(`"Ready"`))
		}
	}
	panel.checkDelivered(mes)
	total, byStation := panel.counts()
	t.Logf("%d accepted, refused %v", total, panel.refused)
	_, metrics := panel.get("/metrics")
	for code, count := range panel.refused {
		if found := sum(metrics, "gladd_refusals_total{", `reason="`+code+`"`); found != count {
			t.Errorf("want %d refusals counted for %s, found %d", count, code, found)
		}
	}
	if code := p.end(); code != 0 {
		t.Errorf("exit code %d:\n%s", code, p.errors())
	}
	l.checkLedger(byStation)
}

// fill fills a file system up with one file.
func fill(t *testing.T, folder string) (path string) {
	t.Helper()
	file, err := os.Create(filepath.Join(folder, "filler"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for err == nil {
		_, err = file.Write(make([]byte, 4096))
	}
	return file.Name()
}

// A ledger whose file system becomes read-only, as Linux makes one with a fault:
// triggers are refused and everybody is told; gladd does not start on it, with
// words and the exit code that has systemd try again; after the repair it goes
// on where it was.
func TestFaultReadOnly(t *testing.T) {
	t.Parallel() // it waits for the end of a daemon that cannot write
	if os.Getuid() != 0 {
		unavailable(t, "needs root, to mount a file system")
	}
	broker := mestest.StartMosquitto(t)
	l := newLine(t, broker.URL(), 3)
	l.deadline = 2 * time.Second
	image, disk := filepath.Join(l.dir, "image"), filepath.Join(l.dir, "disk")
	run := func(name string, arguments ...string) error {
		output, err := exec.Command(name, arguments...).CombinedOutput()
		if err != nil {
			return fmt.Errorf("%s %v: %w: %s", name, arguments, err, output)
		}
		return nil
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.Mkdir(disk, 0o755))
	must(os.WriteFile(image, nil, 0o600))
	must(os.Truncate(image, 16<<20))
	if err := run("mkfs.ext4", "-q", image); err != nil {
		unavailable(t, "no file system can be made here: %v", err)
	}
	mount := func() error { return run("mount", "-o", "loop,errors=remount-ro", image, disk) }
	if err := mount(); err != nil {
		unavailable(t, "no file system can be mounted here: %v", err)
	}
	t.Cleanup(func() { syscall.Unmount(disk, syscall.MNT_DETACH) }) //nolint:errcheck // the test is over
	l.ledger = filepath.Join(disk, "ledger.db")
	mes := mestest.NewMES(t, broker.URL(), mestest.MESOptions{})
	listener := mestest.Listen(t, broker.URL())
	config := l.write()
	p := start(t, config)
	panel := newPanel(p, nil)
	stop := panel.run(l.stations, 5*time.Millisecond)
	mestest.Eventually(t, "accepted", func() bool { total, _ := panel.counts(); return total > 50 })
	stop()
	// Nothing is under way at the fault itself: an ext4 that is given up may lose
	// what fdatasync promised at that moment (seen with Linux 6.18, in a program
	// that does nothing but write and fdatasync).
	total, _ := panel.counts()
	mes.WaitDelivered(total)
	mestest.Eventually(t, "all noted as delivered", func() bool { _, metrics := panel.get("/metrics"); return sum(metrics, "gladd_outbox_length") == 0 })
	must(run("mount", "-o", "remount,abort", disk)) // what a fault of the disk does to ext4 (ext4(5))
	stop = panel.run(l.stations, 5*time.Millisecond)
	mestest.Eventually(t, "refused: ledger", func() bool { return panel.refusals("ledger") > 20 })
	stop()
	if more, _ := panel.counts(); more != total {
		t.Errorf("%d triggers were accepted that cannot be recorded", more-total)
	}
	if status, content := panel.get("/readyz"); status != 503 || !strings.Contains(content, "ledger: ") {
		t.Errorf("found %d, %s", status, content)
	}
	for _, station := range l.stations {
		listener.Wait(station+"/state", mestest.Last(`"Error","reason":"ledger: `))
	}
	// It ends as told: nothing that it had accepted is without a record.
	if code := p.end(); code != 0 {
		t.Errorf("exit code %d:\n%s", code, p.errors())
	}
	for range 2 { // systemd would try again and again
		again := launch(t, []string{"run", "--config", config})
		if code := again.wait(); code != 1 || !strings.Contains(again.errors(), l.ledger+": ") || !strings.Contains(again.errors(), "read-only file system") {
			t.Errorf("exit code %d:\n%s", code, again.errors())
		}
	}
	must(syscall.Unmount(disk, 0))
	if err := run("e2fsck", "-p", image); err != nil && !strings.Contains(err.Error(), "exit status 1:") { // 1: repaired
		t.Fatal(err)
	}
	must(mount())
	p = start(t, config)
	panel.url = p.logged("ready", "web")
	stop = panel.run(l.stations, 5*time.Millisecond)
	mestest.Eventually(t, "accepted again", func() bool { again, _ := panel.counts(); return again > total+20 })
	stop()
	panel.checkDelivered(mes)
	total, byStation := panel.counts()
	t.Logf("%d accepted, refused %v", total, panel.refused)
	if code := p.end(); code != 0 {
		t.Errorf("exit code %d:\n%s", code, p.errors())
	}
	l.checkLedger(byStation)
}
