package station

import (
	"encoding/json"
	"fmt"

	"gladd/daemon/internal/ledger"
	"gladd/daemon/internal/verdict"
)

// Memory is what outlives a restart: what commands made of a station. A crash must
// not change what parts are inspected with, nor end what a person halted.
type Memory struct {
	// Configured is the configuration's recipe at that time: a new configuration
	// goes before what was prepared under an old one.
	Configured string `json:"configured"`
	Recipe     string `json:"recipe"` // that is to be prepared; empty: none
	Halted     bool   `json:"halted"`
	Stopped    bool   `json:"stopped"` // it does not trigger by itself
}

func memoryKey(source string) string { return "station " + source }

// Recall returns what a station is to begin with, whose recipe is configured so.
func Recall(from *ledger.Ledger, source, configured string) (Memory, error) {
	memory := Memory{Configured: configured, Recipe: configured}
	kept, err := from.Kept(memoryKey(source))
	if err != nil || kept == "" {
		return memory, err
	}
	var before Memory
	if err := json.Unmarshal([]byte(kept), &before); err != nil {
		return memory, fmt.Errorf("what the ledger keeps of station %s: %w", source, err)
	}
	if before.Configured == configured {
		return before, nil
	}
	memory.Halted, memory.Stopped = before.Halted, before.Stopped
	// Or the old one would come back with the old configuration.
	return memory, memory.Keep(from, source)
}

func (m Memory) encoded() (string, error) {
	content, err := verdict.JSON(m)
	return string(content), err
}

// Keep has a station begin with it after a restart.
func (m Memory) Keep(in *ledger.Ledger, source string) error {
	value, err := m.encoded()
	if err != nil {
		return err
	}
	return in.Keep(memoryKey(source), value)
}
