package ops

// What the plain calls that wait are made of.
var (
	UntilDone      = untilDone
	TryRecvCall    = tryRecv
	TrySendmsgCall = trySendmsg
	WantsRecv      = wantsRecv
	WantsSend      = wantsSend
)
