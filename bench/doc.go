// Package bench measures uringo alone: how many operations each executor completes, and what each allocates. Run it with
//
//	go test -run '^$' -bench . ./bench
//
// and feed two runs to benchstat to compare two versions. Every benchmark counts single operations, however many tasks
// share them: ns/op is the time of the whole program divided by the operations of all tasks.
//
// The comparison with the standard library, other libraries, C and fio is the nested module in peers; README.md
// explains it.
package bench
