// Fileserver serves the files of the directory that it is started in: package net/http on connections and files of io_uring. Names are
// looked up beneath the directory and nowhere else, whatever they say and whatever symbolic links there are, and files go from the page
// cache to the socket without passing through the process.
//
//	go run ./examples/fileserver [ADDRESS]
package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net/http"
	"os"
	"os/signal"
	"path"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"uringo/driver"
	"uringo/fs"
	"uringo/net"
)

func main() {
	address := "localhost:8080"
	switch len(os.Args) {
	case 1:
	case 2:
		address = os.Args[1]
	default:
		fmt.Fprintln(os.Stderr, "usage: fileserver [ADDRESS]")
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second one ends the program
	if err := run(ctx, address, ".", log.Printf); err != nil {
		log.Fatal(err)
	}
}

// run serves dir at address until ctx ends, and finishes what is being served then.
func run(ctx context.Context, address, dir string, logf func(format string, args ...any)) error {
	d, err := driver.Open(driver.Config{})
	if err != nil {
		return err
	}
	defer d.Close(context.WithoutCancel(ctx))
	// What net/http does with connections and files is not to end with ctx, but when it has shut down.
	background := driver.NewContext(context.WithoutCancel(ctx), d)

	l, err := net.Listen(background, "tcp", address)
	if err != nil {
		return err
	}
	logf("listening on %s", l.Addr())
	root, err := fs.OpenDir(background, dir)
	if err != nil {
		return errors.Join(err, l.Close(background))
	}
	defer root.Close(background)
	// Who sends slowly, or nothing, does not keep a connection for ever.
	server := &http.Server{Handler: files{background, root}, ReadHeaderTimeout: 10 * time.Second, ReadTimeout: time.Minute, IdleTimeout: time.Minute}
	served := make(chan error, 1)
	go func() { served <- server.Serve(l.NetListener()) }()
	select {
	case err := <-served:
		return err
	case <-ctx.Done():
	}
	limit, cancel := context.WithTimeout(background, 10*time.Second)
	defer cancel()
	err = server.Shutdown(limit)
	if end := <-served; !errors.Is(end, http.ErrServerClosed) {
		err = errors.Join(err, end)
	}
	return err
}

// files answers requests with the files of a directory.
type files struct {
	ctx  context.Context // carries the driver
	root *fs.Dir
}

// ServeHTTP implements http.Handler.
func (h files) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		http.Error(w, "only GET and HEAD", http.StatusMethodNotAllowed)
		return
	}
	name := path.Clean("/" + r.URL.Path)[1:]
	if name == "" || r.URL.Path[len(r.URL.Path)-1] == '/' {
		name = path.Join(name, "index.html")
	}
	// Opening a FIFO or a device is not to wait.
	f, err := h.root.OpenFile(h.ctx, name, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		refuse(w, err)
		return
	}
	defer f.Close(h.ctx)
	info, err := f.Stat(h.ctx)
	if err == nil && !info.Mode().IsRegular() {
		err = fs.ErrNotExist // for whoever asks by HTTP
	}
	if err != nil {
		refuse(w, err)
		return
	}
	http.ServeContent(w, r, name, info.ModTime(), f.NewReader(h.ctx, 0))
}

// refuse answers without the words of err, which are not for everybody.
func refuse(w http.ResponseWriter, err error) {
	code := status(err)
	http.Error(w, http.StatusText(code), code)
}

// status is what an error of opening a file means to a client: that there is none, that he may not have it, or that the server cannot help it.
func status(err error) int {
	switch {
	case errors.Is(err, fs.ErrPermission):
		return http.StatusForbidden
	case errors.Is(err, fs.ErrNotExist):
		return http.StatusNotFound
	}
	for _, nowhere := range []error{
		unix.ENOTDIR, unix.ENAMETOOLONG, unix.EINVAL, // no name of a file; the last one has a zero byte
		unix.ELOOP, unix.EXDEV, // a symbolic link, or the way out of the directory
		unix.ENXIO, // a socket
	} {
		if errors.Is(err, nowhere) {
			return http.StatusNotFound
		}
	}
	return http.StatusInternalServerError
}
