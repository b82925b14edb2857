package realworld

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"uringo/driver"
	"uringo/executor"
	"uringo/fs"
	"uringo/internal/testenv"
	"uringo/net"
)

// site serves a file, tells the digest of what is sent to it, and what protocol it was asked by.
func site(ctx context.Context, file string) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /file", func(w http.ResponseWriter, r *http.Request) {
		f, err := fs.Open(ctx, file)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		defer f.Close(ctx)
		http.ServeContent(w, r, "file.bin", time.Time{}, f.NewReader(ctx, 0))
	})
	mux.HandleFunc("PUT /digest", func(w http.ResponseWriter, r *http.Request) {
		h := sha256.New()
		if _, err := io.Copy(h, r.Body); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		fmt.Fprintf(w, "%x", h.Sum(nil))
	})
	mux.HandleFunc("GET /protocol", func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.Proto) })
	return mux
}

// TestCurl has curl ask net/http on our listener: with and without TLS, by HTTP/1.1 and HTTP/2, for ranges, and sending a file.
func TestCurl(t *testing.T) {
	curl := need(t, "curl")
	file, content := randomFile(t, t.TempDir(), 8<<20)
	for _, engine := range testenv.Engines(t) {
		t.Run(engine.String(), func(t *testing.T) {
			ctx := driver.NewContext(context.Background(), openDriver(t, engine))
			for _, secure := range []bool{false, true} {
				url := startSite(t, ctx, file, secure)
				ask := func(args ...string) []byte {
					t.Helper()
					ctx, cancel := context.WithTimeout(ctx, time.Minute)
					defer cancel()
					out, err := exec.CommandContext(ctx, curl, append([]string{"-sSkf"}, args...)...).Output()
					if err != nil {
						var e *exec.ExitError
						if errors.As(err, &e) {
							err = fmt.Errorf("%w: %s", err, e.Stderr)
						}
						t.Errorf("curl %v: %v", args, err)
					}
					return out
				}
				want := map[string]string{"--http1.1": "HTTP/1.1", "--http2": "HTTP/1.1"}
				if secure {
					want["--http2"] = "HTTP/2.0"
				}
				for version, protocol := range want {
					if got := ask(version, url+"/protocol"); string(got) != protocol {
						t.Errorf("%s, TLS %t: %q", version, secure, got)
					}
					if got := ask(version, url+"/file"); !bytes.Equal(got, content) {
						t.Errorf("%s, TLS %t: %d bytes of %d", version, secure, len(got), len(content))
					}
					if got := ask(version, "-r", "1000000-1000099", url+"/file"); !bytes.Equal(got, content[1000000:1000100]) {
						t.Errorf("%s, TLS %t: a range of %d bytes", version, secure, len(got))
					}
					digest := fmt.Sprintf("%x", sha256.Sum256(content))
					if got := ask(version, "-T", file, "-H", "Expect: 100-continue", url+"/digest"); string(got) != digest {
						t.Errorf("%s, TLS %t: sent %s, arrived %s", version, secure, digest, got)
					}
				}
			}
		})
	}
}

func startSite(t *testing.T, ctx context.Context, file string, secure bool) (url string) {
	t.Helper()
	l, err := net.Listen(ctx, "tcp", loopback)
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewUnstartedServer(site(ctx, file))
	s.Listener.Close()
	s.Listener = l.NetListener()
	if s.EnableHTTP2 = secure; secure {
		s.StartTLS()
	} else {
		s.Start()
	}
	t.Cleanup(s.Close)
	return s.URL
}

// TestLoad has a load generator keep many connections busy, with and without keep-alive.
func TestLoad(t *testing.T) {
	ab := need(t, "ab")
	file, _ := randomFile(t, t.TempDir(), 100_000)
	for _, engine := range testenv.Engines(t) {
		t.Run(engine.String(), func(t *testing.T) {
			ctx := driver.NewContext(context.Background(), openDriver(t, engine))
			url := startSite(t, ctx, file, false)
			for _, flags := range [][]string{{"-k"}, {}} {
				const requests = 3000
				args := append(flags, "-q", "-r", "-n", strconv.Itoa(requests), "-c", "32", url+"/file")
				out, err := exec.Command(ab, args...).CombinedOutput()
				if err != nil {
					t.Fatalf("ab: %v\n%s", err, out)
				}
				if got := figure(out, `Complete requests: +(\d+)`); got != requests {
					t.Errorf("%v: %d of %d requests", flags, got, requests)
				}
				if got := figure(out, `Failed requests: +(\d+)`); got != 0 {
					t.Errorf("%v: %d requests failed:\n%s", flags, got, out)
				}
				t.Logf("%v: %d requests a second", flags, figure(out, `Requests per second: +(\d+)`))
			}
		})
	}
}

func figure(text []byte, pattern string) int {
	m := regexp.MustCompile(pattern).FindSubmatch(text)
	if m == nil {
		return -1
	}
	n, _ := strconv.Atoi(string(m[1]))
	return n
}

// TestNginx has net/http's client ask nginx over our connections.
func TestNginx(t *testing.T) {
	address, content := startNginx(t, 8<<20)
	compare(t, func(ctx context.Context, n network) (string, error) {
		tr := &http.Transport{DialContext: n.dial}
		defer tr.CloseIdleConnections()
		client := &http.Client{Transport: tr}
		r := new(transcript)
		var wg sync.WaitGroup
		errs := make([]error, 16)
		for g := range errs {
			wg.Go(func() {
				for range 4 {
					got, err := get(ctx, client, "http://"+address+"/file.bin")
					if err == nil && !bytes.Equal(got, content) {
						err = fmt.Errorf("%d bytes of %d", len(got), len(content))
					}
					if err != nil {
						errs[g] = err
						return
					}
				}
			})
		}
		wg.Wait()
		_, err := get(ctx, client, "http://"+address+"/missing")
		r.say("missing: %v", err)
		return r.b.String(), errors.Join(errs...)
	})
}

func get(ctx context.Context, client *http.Client, url string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	res, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return nil, errors.New(res.Status)
	}
	return io.ReadAll(res.Body)
}

// startNginx serves /file.bin, and takes what is put under /in/ if it can.
func startNginx(t *testing.T, size int) (address string, content []byte) {
	t.Helper()
	nginx := need(t, "nginx")
	who, dir := ordinary(t)
	_, content = randomFile(t, dir, size)
	address, _ = freeAddress(t)
	config := fmt.Sprintf(`
		daemon off; worker_processes 2; pid %[1]s/pid; error_log stderr;
		events {}
		http {
			access_log off; sendfile on; keepalive_requests 100000;
			client_body_temp_path %[1]s/body; proxy_temp_path %[1]s/proxy; fastcgi_temp_path %[1]s/fastcgi;
			uwsgi_temp_path %[1]s/uwsgi; scgi_temp_path %[1]s/scgi;
			server {
				listen %[2]s; root %[1]s; client_max_body_size 0;
				location /in/ { dav_methods PUT; create_full_put_path on; }
			}
		}`, dir, address)
	name := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(name, []byte(config), 0o644); err != nil {
		t.Fatal(err)
	}
	serve(t, command(who, dir, nginx, "-c", name, "-p", dir, "-e", "stderr"), syscall.SIGTERM, address)
	return address, content
}

func randomFile(t *testing.T, dir string, size int) (name string, content []byte) {
	t.Helper()
	content = make([]byte, size)
	_, _ = rand.Read(content) // never fails
	name = filepath.Join(dir, "file.bin")
	if err := os.WriteFile(name, content, 0o644); err != nil {
		t.Fatal(err)
	}
	return name, content
}

// TestProxy moves large files through our proxy both ways, to and from nginx, on every executor.
func TestProxy(t *testing.T) {
	size := mebibytes(t) << 20
	address, content := startNginx(t, size)
	want := sha256.Sum256(content)
	content = nil
	for _, engine := range testenv.Engines(t) {
		for _, e := range []executor.Executor{executor.Goroutines(), executor.Workers(1), executor.Local()} {
			t.Run(fmt.Sprintf("%v/%v", engine, e), func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				listening := make(chan string, 1)
				ended := make(chan error, 1)
				go func() {
					ended <- executor.Start(ctx, func(ctx context.Context) error {
						return proxy(ctx, address, listening)
					}, executor.WithExecutor(e), executor.WithDriver(driver.Config{Engine: engine}))
				}()
				var at string
				select {
				case at = <-listening:
				case err := <-ended:
					t.Fatal(err)
				}
				down, up := moveBoth(t, "http://"+at, size, want)
				t.Logf("%d MiB down in %v, up in %v", size>>20, down.Round(time.Millisecond), up.Round(time.Millisecond))
				cancel()
				if err := <-ended; !errors.Is(err, context.Canceled) {
					t.Error(err)
				}
			})
		}
	}
}

// proxy passes connections on to the target until ctx ends.
func proxy(ctx context.Context, target string, listening chan<- string) error {
	l, err := net.Listen(ctx, "tcp", loopback)
	if err != nil {
		return err
	}
	defer l.Close(context.WithoutCancel(ctx))
	listening <- l.Addr().String()
	for {
		c, err := l.Accept(ctx)
		if err != nil {
			return err
		}
		executor.Go(ctx, func(ctx context.Context) (struct{}, error) {
			defer c.Close(context.WithoutCancel(ctx))
			s, err := net.Dial(ctx, "tcp", target)
			if err != nil {
				return struct{}{}, err
			}
			defer s.Close(context.WithoutCancel(ctx))
			_, _, err = net.Proxy(ctx, c, s)
			return struct{}{}, err
		})
	}
}

// moveBoth downloads the file, and sends it back under another name to download that.
func moveBoth(t *testing.T, url string, size int, want [32]byte) (down, up time.Duration) {
	t.Helper()
	tr := &http.Transport{}
	defer tr.CloseIdleConnections()
	client := &http.Client{Transport: tr, Timeout: 5 * time.Minute}
	start := time.Now()
	kept := filepath.Join(t.TempDir(), "got")
	if err := download(client, url+"/file.bin", kept, size, want); err != nil {
		t.Fatalf("down: %v", err)
	}
	down = time.Since(start)
	f, err := os.Open(kept)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	start = time.Now()
	there := url + "/in/" + strings.ReplaceAll(t.Name(), "/", "-")
	req, err := http.NewRequest(http.MethodPut, there, f)
	if err != nil {
		t.Fatal(err)
	}
	req.ContentLength = int64(size)
	res, err := client.Do(req)
	if err != nil {
		t.Fatalf("up: %v", err)
	}
	res.Body.Close()
	if res.StatusCode != http.StatusCreated {
		t.Fatalf("up: %s", res.Status)
	}
	up = time.Since(start)
	if err := download(client, there, kept, size, want); err != nil {
		t.Fatalf("what was sent up: %v", err)
	}
	return down, up
}

func download(client *http.Client, url, name string, size int, want [32]byte) error {
	res, err := client.Get(url)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	defer f.Close()
	h := sha256.New()
	n, err := io.Copy(io.MultiWriter(f, h), res.Body)
	if err != nil {
		return err
	}
	if got := [32]byte(h.Sum(nil)); res.StatusCode != http.StatusOK || n != int64(size) || got != want {
		return fmt.Errorf("%s, %d bytes of %d, digest %x, not %x", res.Status, n, size, got, want)
	}
	return nil
}
