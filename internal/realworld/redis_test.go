package realworld

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	stdnet "net"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// TestRedis has go-redis and its pool talk to Redis, over TCP and over a Unix socket.
func TestRedis(t *testing.T) {
	server := need(t, "redis-server")
	who, dir := ordinary(t)
	address, port := freeAddress(t)
	socket := filepath.Join(dir, "redis")
	serve(t, command(who, dir, server, "--port", port, "--bind", "127.0.0.1", "--unixsocket", socket, "--save", "", "--dir", dir),
		syscall.SIGTERM, address)
	for kind, address := range map[string]string{"tcp": address, "unix": socket} {
		t.Run(kind, func(t *testing.T) {
			compare(t, func(ctx context.Context, n network) (string, error) {
				c := redis.NewClient(&redis.Options{
					Network: kind, Addr: address, PoolSize: 8, MaxRetries: -1, ContextTimeoutEnabled: true,
					Dialer: n.dial,
				})
				text, err := askRedis(ctx, c)
				return text, errors.Join(err, c.Close())
			})
		})
	}
}

func askRedis(ctx context.Context, c *redis.Client) (string, error) {
	r := new(transcript)
	if err := c.FlushAll(ctx).Err(); err != nil {
		return "", err
	}
	steps := []struct {
		name string
		do   func(context.Context, *redis.Client, *transcript) error
	}{
		{"commands", redisCommands}, {"pipeline", redisPipeline}, {"large", redisLarge}, {"subscribe", redisSubscribe},
		{"wait", redisWait}, {"many", redisMany},
	}
	for _, s := range steps {
		r.say("# %s", s.name)
		if err := s.do(ctx, c, r); err != nil {
			return "", fmt.Errorf("%s: %w", s.name, err)
		}
	}
	return r.b.String(), nil
}

func redisCommands(ctx context.Context, c *redis.Client, r *transcript) error {
	for i := range 500 {
		key := fmt.Sprint("key", i)
		if err := c.Set(ctx, key, strings.Repeat("x", i), 0).Err(); err != nil {
			return err
		}
		got, err := c.Get(ctx, key).Result()
		if err != nil || len(got) != i {
			return fmt.Errorf("%s: %d, %w", key, len(got), err)
		}
	}
	_, err := c.Get(ctx, "none").Result()
	r.say("%v, %v", err, c.Do(ctx, "nonsense").Err())
	var keys []string
	for it := c.Scan(ctx, 0, "key1*", 50).Iterator(); it.Next(ctx); {
		keys = append(keys, it.Val())
	}
	slices.Sort(keys)
	r.say("%v", slices.Compact(keys))
	return nil
}

func redisPipeline(ctx context.Context, c *redis.Client, r *transcript) error {
	for _, do := range []func(context.Context, func(redis.Pipeliner) error) ([]redis.Cmder, error){c.Pipelined, c.TxPipelined} {
		all, err := do(ctx, func(p redis.Pipeliner) error {
			for i := range 5000 {
				p.IncrBy(ctx, "count", int64(i))
			}
			return nil
		})
		if err != nil {
			return err
		}
		r.say("%d, %v", len(all), all[len(all)-1].(*redis.IntCmd).Val())
	}
	return nil
}

func redisLarge(ctx context.Context, c *redis.Client, r *transcript) error {
	large := make([]byte, 16<<20)
	for i := range large {
		large[i] = byte(i * i >> 8)
	}
	if err := c.Set(ctx, "large", large, 0).Err(); err != nil {
		return err
	}
	back, err := c.Get(ctx, "large").Bytes()
	r.say("%d bytes, %x", len(back), sha256.Sum256(back))
	return err
}

func redisSubscribe(ctx context.Context, c *redis.Client, r *transcript) error {
	sub := c.Subscribe(ctx, "news")
	defer sub.Close()
	if _, err := sub.Receive(ctx); err != nil {
		return err
	}
	for i := range 100 {
		if err := c.Publish(ctx, "news", i).Err(); err != nil {
			return err
		}
	}
	for range 100 {
		m, err := sub.ReceiveMessage(ctx)
		if err != nil {
			return err
		}
		r.say("%s", m.Payload)
	}
	_, err := sub.ReceiveTimeout(ctx, 20*time.Millisecond)
	var timeout stdnet.Error
	r.say("no more: %t", errors.As(err, &timeout) && timeout.Timeout())
	return nil
}

func redisWait(ctx context.Context, c *redis.Client, r *transcript) error {
	_, err := c.BLPop(ctx, time.Second, "queue").Result()
	r.say("nothing: %v", err)
	pushed := make(chan error, 1)
	go func() {
		time.Sleep(20 * time.Millisecond) // it waits by then
		pushed <- c.RPush(ctx, "queue", "a", "b").Err()
	}()
	for range 2 {
		got, err := c.BLPop(ctx, 30*time.Second, "queue").Result()
		if err != nil {
			return err
		}
		r.say("%v", got)
	}
	short, cancel := context.WithTimeout(ctx, 30*time.Millisecond)
	defer cancel()
	_, err = c.BLPop(short, 30*time.Second, "queue").Result()
	r.say("given up: %t", err != nil)
	return <-pushed
}

func redisMany(ctx context.Context, c *redis.Client, r *transcript) error {
	var wg sync.WaitGroup
	errs := make([]error, 32)
	for g := range errs {
		wg.Go(func() {
			for range 200 {
				if err := c.Incr(ctx, "many").Err(); err != nil {
					errs[g] = err
					return
				}
			}
		})
	}
	wg.Wait()
	n, err := c.Get(ctx, "many").Int()
	r.say("%d", n)
	return errors.Join(append(errs, err)...)
}
