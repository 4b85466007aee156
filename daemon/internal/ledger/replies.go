package ledger

import "gladd/daemon/internal/verdict"

// Accept keeps the reply to a command that is no trigger, if it had an id. If the
// command was answered before, that reply is returned.
func (l *Ledger) Accept(source string, reply verdict.Reply) (first verdict.Reply, repeated bool, err error) {
	if reply.CommandID == nil {
		return reply, false, nil
	}
	err = l.commit(func(tx transaction) error {
		earlier, err := answer(tx, source, reply)
		if repeated = earlier != nil; repeated {
			reply = *earlier
		}
		return err
	})
	return reply, repeated, err
}
