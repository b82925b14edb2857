// Package job holds the words that the parent and its measuring subprocesses exchange: which row of which table
// to measure, and what came out. Both directions travel as JSON, so that a row in C, a row of fio and a row in Go
// look the same to the tables.
package job

import "time"

// The works. Each is one table.
const (
	Nop    = "nop"
	Cached = "read-cached"
	Direct = "read-direct"
	Write  = "write-buffered"
	Stat   = "stat-warm"
	Small  = "small-files" // measured as one run, reported as the three that follow
	Create = "small-create"
	Read   = "small-read"
	Unlink = "small-unlink"
	Copy   = "copy-big"

	StreamRead        = "stream-read"         // a whole file in order, from the device through the page cache
	StreamReadDirect  = "stream-read-direct"  // with O_DIRECT
	StreamWrite       = "stream-write"        // a whole file in order, and fsync
	StreamWriteDirect = "stream-write-direct" // with O_DIRECT, and fsync
	WalkCold          = "walk-cold"           // a tree, every file described
	WalkWarm          = "walk-warm"
	FilesCold         = "readfile-cold" // many small files, whole
	FilesWarm         = "readfile-warm"
	Flood             = "flood"        // read-direct from more tasks than a process may have threads
	Beside            = "beside-stuck" // one task with cached reads, while others wait for a slow file system

	Echo      = "echo"           // 64 bytes on every connection, one request at a time
	Pipelined = "echo-pipelined" // 512 bytes, 16 requests in flight on every connection
	Accept    = "accept"         // a connection for every request
	Hello     = "http-hello"
	SendFile  = "sendfile" // 16 MiB of a file for every request
)

// A Row is one line of a table. Cores is the number of processors that the whole process may use; a pinned and an
// unpinned run of the same contender are two rows.
type Row struct {
	Work      string `json:"work"`
	Tasks     int    `json:"tasks"`
	Contender string `json:"contender"`
	Cores     int    `json:"cores"`
}

// A Job asks a subprocess for one measurement of one row.
type Job struct {
	Row
	Dir     string        `json:"dir"` // the test directory, laid out as package testdir does
	Warm    time.Duration `json:"warm"`
	Measure time.Duration `json:"measure"`
	// OwnNetwork says that the subprocess starts with an empty network namespace.
	OwnNetwork bool `json:"own_network"`
}

// NotCounted stands for a figure that this contender cannot give, such as allocations of a C program, or any per operation of one that got
// nothing done.
const NotCounted = -1

// A Sample is one measurement. Work differs from the job's where one run measures several works.
type Sample struct {
	Work    string        `json:"work"`
	Ops     int64         `json:"ops"` // operations, or MiB for a copy
	Elapsed time.Duration `json:"elapsed"`
	CPU     time.Duration `json:"cpu"` // user and system time of the whole process in the measured phase; of the server, if there is one
	Allocs  int64         `json:"allocs"`
	Threads int           `json:"threads"`
}

// Rate is operations per second.
func (s Sample) Rate() float64 { return float64(s.Ops) / s.Elapsed.Seconds() }

// CPUPerOp is microseconds of processor time per operation, or NotCounted.
func (s Sample) CPUPerOp() float64 {
	if s.Ops == 0 {
		return NotCounted
	}
	return float64(s.CPU.Nanoseconds()) / 1e3 / float64(s.Ops)
}

// AllocsPerOp is heap allocations per operation, or NotCounted.
func (s Sample) AllocsPerOp() float64 {
	if s.Allocs == NotCounted || s.Ops == 0 {
		return NotCounted
	}
	return float64(s.Allocs) / float64(s.Ops)
}

// Results are the samples of every row, and the reason for every row that is missing some.
type Results struct {
	Rows    []Row // in the order of the report
	Samples map[Row][]Sample
	Absent  map[Row]string
}
