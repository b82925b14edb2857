package realworld

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// TestPostgres has pgx and its pool talk to PostgreSQL, over TCP and over a Unix socket.
func TestPostgres(t *testing.T) {
	initdb, postgres := need(t, "initdb"), need(t, "postgres")
	who, dir := ordinary(t)
	data := filepath.Join(dir, "data")
	if out, err := command(who, dir, initdb, "-D", data, "-A", "trust", "-U", "test", "--no-sync", "-E", "UTF8").CombinedOutput(); err != nil {
		t.Fatalf("initdb: %v\n%.2000s", err, out)
	}
	address, port := freeAddress(t)
	serve(t, command(who, dir, postgres, "-D", data, "-k", dir, "-h", "127.0.0.1", "-p", port, "-F"), os.Interrupt, address)
	for limit := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) { // it accepts before it serves
		c, err := pgx.Connect(t.Context(), fmt.Sprintf("host=127.0.0.1 port=%s user=test dbname=postgres sslmode=disable", port))
		if err == nil {
			c.Close(t.Context())
			break
		}
		if time.Now().After(limit) {
			t.Fatal(err)
		}
	}
	for _, host := range []string{"127.0.0.1", dir} {
		name := "tcp"
		if host == dir {
			name = "unix"
		}
		t.Run(name, func(t *testing.T) {
			compare(t, func(ctx context.Context, n network) (string, error) {
				cfg, err := pgxpool.ParseConfig(fmt.Sprintf("host=%s port=%s user=test dbname=postgres sslmode=disable", host, port))
				if err != nil {
					return "", err
				}
				cfg.ConnConfig.DialFunc = n.dial
				cfg.MaxConns = 8
				pool, err := pgxpool.NewWithConfig(ctx, cfg)
				if err != nil {
					return "", err
				}
				defer pool.Close()
				return askPostgres(ctx, pool)
			})
		})
	}
}

func askPostgres(ctx context.Context, pool *pgxpool.Pool) (string, error) {
	r := new(transcript)
	steps := []struct {
		name string
		do   func(context.Context, *pgxpool.Pool, *transcript) error
	}{
		{"rows", pgRows}, {"batch", pgBatch}, {"copy", pgCopy}, {"large", pgLarge}, {"transaction", pgTransaction},
		{"notify", pgNotify}, {"cancel", pgCancel}, {"many", pgMany},
	}
	for _, s := range steps {
		r.say("# %s", s.name)
		if err := s.do(ctx, pool, r); err != nil {
			return "", fmt.Errorf("%s: %w", s.name, err)
		}
	}
	return r.b.String(), nil
}

func pgRows(ctx context.Context, pool *pgxpool.Pool, r *transcript) error {
	rows, err := pool.Query(ctx, "select i, repeat(chr(65 + i % 26), i) from generate_series(1, 2000) i")
	if err != nil {
		return err
	}
	defer rows.Close()
	h := sha256.New()
	n := 0
	for rows.Next() {
		var i int
		var s string
		if err := rows.Scan(&i, &s); err != nil {
			return err
		}
		fmt.Fprintln(h, i, s)
		n++
	}
	r.say("%d rows, %x", n, h.Sum(nil))
	_, err = pool.Exec(ctx, "select 1/0")
	r.say("%v", err)
	return rows.Err()
}

func pgBatch(ctx context.Context, pool *pgxpool.Pool, r *transcript) error {
	if _, err := pool.Exec(ctx, "drop table if exists t; create table t (id int primary key, v text)"); err != nil {
		return err
	}
	b := new(pgx.Batch)
	for i := range 1000 {
		b.Queue("insert into t values ($1, $2) returning id * 2", i, strings.Repeat("v", i%100))
	}
	results := pool.SendBatch(ctx, b)
	sum := 0
	for range 1000 {
		var n int
		if err := results.QueryRow().Scan(&n); err != nil {
			return errors.Join(err, results.Close())
		}
		sum += n
	}
	r.say("sum %d", sum)
	return results.Close()
}

func pgCopy(ctx context.Context, pool *pgxpool.Pool, r *transcript) error {
	const rows = 20_000
	i := 0
	n, err := pool.CopyFrom(ctx, pgx.Identifier{"t"}, []string{"id", "v"}, pgx.CopyFromFunc(func() ([]any, error) {
		if i == rows {
			return nil, nil
		}
		i++
		return []any{10_000 + i, strings.Repeat("c", i%200)}, nil
	}))
	if err != nil {
		return err
	}
	c, err := pool.Acquire(ctx)
	if err != nil {
		return err
	}
	defer c.Release()
	h := sha256.New()
	tag, err := c.Conn().PgConn().CopyTo(ctx, h, "copy (select * from t order by id) to stdout")
	r.say("in %d, out %s, %x", n, tag, h.Sum(nil))
	return err
}

func pgLarge(ctx context.Context, pool *pgxpool.Pool, r *transcript) error {
	large := make([]byte, 8<<20)
	for i := range large {
		large[i] = byte(i * i >> 8)
	}
	var back []byte
	err := pool.QueryRow(ctx, "select $1::bytea || '\\x00'::bytea", large).Scan(&back)
	r.say("%d bytes, %x", len(back), sha256.Sum256(back))
	return err
}

func pgTransaction(ctx context.Context, pool *pgxpool.Pool, r *transcript) error {
	for _, fail := range []bool{true, false} {
		err := pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
			if _, err := tx.Exec(ctx, "delete from t where id < 10"); err != nil {
				return err
			}
			if fail {
				return errors.New("back")
			}
			return nil
		})
		var n int
		if err := pool.QueryRow(ctx, "select count(*) from t where id < 20").Scan(&n); err != nil {
			return err
		}
		r.say("%v: %d left", err, n)
	}
	return nil
}

func pgNotify(ctx context.Context, pool *pgxpool.Pool, r *transcript) error {
	c, err := pool.Acquire(ctx)
	if err != nil {
		return err
	}
	defer c.Release()
	if _, err := c.Exec(ctx, "listen news"); err != nil {
		return err
	}
	sent := make(chan error, 1)
	go func() {
		time.Sleep(20 * time.Millisecond) // it waits by then
		_, err := pool.Exec(ctx, "notify news, 'hello'; notify news, 'again'")
		sent <- err
	}()
	for range 2 {
		n, err := c.Conn().WaitForNotification(ctx)
		if err != nil {
			return err
		}
		r.say("%s: %s", n.Channel, n.Payload)
	}
	short, cancel := context.WithTimeout(ctx, 30*time.Millisecond)
	defer cancel()
	_, err = c.Conn().WaitForNotification(short)
	r.say("no more: %t, usable: %t", errors.Is(err, context.DeadlineExceeded), !c.Conn().IsClosed())
	return <-sent
}

func pgCancel(ctx context.Context, pool *pgxpool.Pool, r *transcript) error {
	for range 5 {
		short, cancel := context.WithTimeout(ctx, 30*time.Millisecond)
		start := time.Now()
		_, err := pool.Exec(short, "select pg_sleep(60)")
		cancel()
		r.say("in time: %t, told: %t", time.Since(start) < 30*time.Second, errors.Is(err, context.DeadlineExceeded))
	}
	var one int
	err := pool.QueryRow(ctx, "select 1").Scan(&one)
	r.say("%d", one)
	return err
}

func pgMany(ctx context.Context, pool *pgxpool.Pool, r *transcript) error {
	var wg sync.WaitGroup
	errs := make([]error, 32)
	for g := range errs {
		wg.Go(func() {
			for i := range 50 {
				var n int
				err := pool.QueryRow(ctx, "select $1::int + $2::int", g, i).Scan(&n)
				if err == nil && n != g+i {
					err = fmt.Errorf("%d + %d = %d", g, i, n)
				}
				if err != nil {
					errs[g] = err
					return
				}
			}
		})
	}
	wg.Wait()
	r.say("done")
	return errors.Join(errs...)
}
