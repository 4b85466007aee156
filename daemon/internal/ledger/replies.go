package ledger

import "gladd/daemon/internal/verdict"

// Accept keeps the reply to a command that is no trigger, if it had an id, and
// with it a value over restarts, if a key is given: see [Ledger.Keep]. If the
// command was answered before, that reply is returned and nothing is kept.
func (l *Ledger) Accept(source string, reply verdict.Reply, key, value string) (first verdict.Reply, repeated bool, err error) {
	if reply.CommandID == nil && key == "" {
		return reply, false, nil
	}
	err = l.commit(func(tx transaction) error {
		earlier, err := answer(tx, source, reply)
		if repeated = earlier != nil; repeated {
			reply = *earlier
		}
		if err != nil || repeated || key == "" {
			return err
		}
		return tx.keep(key, value)
	})
	return reply, repeated, err
}
