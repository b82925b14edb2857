package peer

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	stdnet "net"
	"net/http"
	"os/exec"
	"strconv"
	"time"

	"uringo/bench/peers/internal/job"
	"uringo/bench/peers/internal/meter"
)

// A serve runs a server on the loopback interface. It calls up with the port when it listens, and returns when ctx has ended. The pid
// is that of the process that serves, 0 for this one.
type serve func(ctx context.Context, j job.Job, up func(port, pid int)) error

// underLoad measures a server. The load is a process of its own, in C, on the processors that the server may not use: what it costs is
// not the server's.
func underLoad(s serve) Measure {
	return func(ctx context.Context, j job.Job) ([]job.Sample, error) {
		serving, stop := context.WithCancel(ctx)
		defer stop()
		type listening struct{ port, pid int }
		up := make(chan listening, 1)
		ended := make(chan error, 1)
		go func() { ended <- s(serving, j, func(port, pid int) { up <- listening{port, pid} }) }()
		var at listening
		select {
		case at = <-up:
		case err := <-ended:
			return nil, fmt.Errorf("the server ended: %w", err)
		}
		sample, err := load(ctx, j, at.port, &meter.Server{Pid: at.pid})
		stop()
		if end := <-ended; err == nil && end != nil && !errors.Is(end, context.Canceled) {
			err = end
		}
		return []job.Sample{sample}, err
	}
}

// load puts a server under the load of its work.
func load(ctx context.Context, j job.Job, port int, server *meter.Server) (job.Sample, error) {
	request, reply, inFlight, mode := bytes.Repeat([]byte("uringo! "), 8), 64, 1, "echo"
	switch j.Work {
	case job.Pipelined:
		request = bytes.Repeat([]byte("uringo! "), 64)
		reply, inFlight = len(request), 16
	case job.Accept:
		mode = "reconnect"
	case job.SendFile:
		reply, mode = sentSize, "fixed"
	case job.Hello:
		request, mode = []byte("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"), "fixed"
		var err error
		if reply, err = replySize(port, request); err != nil {
			return job.Sample{}, err
		}
	}
	if err := compile(ctx, j.Dir, "load"); err != nil {
		return job.Sample{}, err
	}
	cmd := exec.CommandContext(ctx, program(j.Dir, "load"), strconv.Itoa(port), strconv.Itoa(j.Tasks), strconv.Itoa(inFlight),
		strconv.Itoa(reply), millis(j.Warm), millis(j.Measure), mode)
	cmd.Stdin = bytes.NewReader(request)
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.StdoutPipe()
	if err != nil {
		return job.Sample{}, err
	}
	if err := cmd.Start(); err != nil {
		return job.Sample{}, err
	}
	s, err := watch(j, out, server)
	if end := cmd.Wait(); end != nil {
		err = fmt.Errorf("load: %w: %.400s", end, bytes.TrimSpace(said.Bytes()))
	}
	return s, err
}

// watch measures the server from the load's start to its end.
func watch(j job.Job, out io.Reader, server *meter.Server) (job.Sample, error) {
	r := bufio.NewReader(out)
	if line, err := r.ReadString('\n'); err != nil || line != "start\n" {
		return job.Sample{}, fmt.Errorf("the load said %q: %w", line, err)
	}
	if err := server.Start(); err != nil {
		return job.Sample{}, err
	}
	var count struct {
		Ops     int64
		Elapsed time.Duration
	}
	if err := json.NewDecoder(r).Decode(&count); err != nil {
		return job.Sample{}, fmt.Errorf("the load's count: %w", err)
	}
	return server.Stop(j.Work, count.Ops, count.Elapsed)
}

// replySize makes one request and returns how long the reply is. The replies are equally long, as their only varying part is the date.
func replySize(port int, request []byte) (int, error) {
	c, err := stdnet.Dial("tcp", stdnet.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if err != nil {
		return 0, err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return 0, err
	}
	if _, err := c.Write(request); err != nil {
		return 0, err
	}
	var size counter
	res, err := http.ReadResponse(bufio.NewReader(io.TeeReader(c, &size)), nil)
	if err != nil {
		return 0, err
	}
	_, err = io.Copy(io.Discard, res.Body)
	return int(size), err
}

// counter counts what is written to it.
type counter int

func (n *counter) Write(b []byte) (int, error) {
	*n += counter(len(b))
	return len(b), nil
}

func hello(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "hello") }

// serveHTTP runs net/http on a listener until ctx ends.
func serveHTTP(ctx context.Context, l stdnet.Listener, up func(port, pid int)) error {
	s := &http.Server{Handler: http.HandlerFunc(hello)}
	up(l.Addr().(*stdnet.TCPAddr).Port, 0)
	stop := context.AfterFunc(ctx, func() { s.Close() })
	defer stop()
	if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
