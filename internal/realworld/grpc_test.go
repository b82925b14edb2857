package realworld

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// echoService is what protoc would make of
//
//	service Echo {
//	  rpc Once(google.protobuf.BytesValue) returns (google.protobuf.BytesValue);
//	  rpc Each(stream google.protobuf.BytesValue) returns (stream google.protobuf.BytesValue);
//	}
//
// Once answers nothing to "wait" until it is cancelled, and fails for "fail".
var echoService = grpc.ServiceDesc{
	ServiceName: "realworld.Echo",
	HandlerType: (*any)(nil),
	Methods: []grpc.MethodDesc{{
		MethodName: "Once",
		Handler: func(_ any, ctx context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
			in := new(wrapperspb.BytesValue)
			if err := decode(in); err != nil {
				return nil, err
			}
			switch string(in.Value) {
			case "wait":
				<-ctx.Done()
				return nil, ctx.Err()
			case "fail":
				return nil, status.Error(codes.FailedPrecondition, "as you wish")
			}
			return in, nil
		},
	}},
	Streams: []grpc.StreamDesc{{
		StreamName: "Each", ServerStreams: true, ClientStreams: true,
		Handler: func(_ any, stream grpc.ServerStream) error {
			for {
				m := new(wrapperspb.BytesValue)
				if err := stream.RecvMsg(m); err == io.EOF {
					return nil
				} else if err != nil {
					return err
				}
				if err := stream.SendMsg(m); err != nil {
					return err
				}
			}
		},
	}},
}

// TestGRPC has gRPC's server and client at both ends: single calls, errors, deadlines, and a stream both ways.
func TestGRPC(t *testing.T) {
	compare(t, func(ctx context.Context, n network) (string, error) {
		l, err := n.listen(ctx)
		if err != nil {
			return "", err
		}
		server := grpc.NewServer()
		server.RegisterService(&echoService, new(any))
		served := make(chan error, 1)
		go func() { served <- server.Serve(l) }()
		r := new(transcript)
		c, err := grpc.NewClient("passthrough:///"+l.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) { return n.dial(ctx, "tcp", address) }))
		if err == nil {
			err = errors.Join(useEcho(ctx, c, r), c.Close())
		}
		server.GracefulStop()
		return r.b.String(), errors.Join(err, <-served)
	})
}

func useEcho(ctx context.Context, c *grpc.ClientConn, r *transcript) error {
	once := func(ctx context.Context, value []byte) ([]byte, error) {
		out := new(wrapperspb.BytesValue)
		err := c.Invoke(ctx, "/realworld.Echo/Once", wrapperspb.Bytes(value), out)
		return out.Value, err
	}
	for _, size := range []int{0, 1, 100, 1 << 16, 3 << 20} {
		got, err := once(ctx, message(size))
		r.say("once: %d bytes, %x, %v", len(got), sha256.Sum256(got), err)
	}
	_, err := once(ctx, []byte("fail"))
	r.say("fail: %v", err)
	limit, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
	defer cancel()
	_, err = once(limit, []byte("wait"))
	r.say("wait: %v", status.Code(err))
	var wg sync.WaitGroup
	errs := make([]error, 16)
	for g := range errs {
		wg.Go(func() {
			for i := range 50 {
				want := fmt.Append(nil, g, " ", i)
				if got, err := once(ctx, want); err != nil || !bytes.Equal(got, want) {
					errs[g] = fmt.Errorf("%q got the answer %q: %v", want, got, err)
				}
			}
		})
	}
	wg.Wait()
	r.say("together: %v", errors.Join(errs...))
	return echoStream(ctx, c, r)
}

// echoStream sends without waiting for what comes back.
func echoStream(ctx context.Context, c *grpc.ClientConn, r *transcript) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := c.NewStream(ctx, &echoService.Streams[0], "/realworld.Echo/Each")
	if err != nil {
		return err
	}
	const messages = 1000
	sent := make(chan error, 1)
	go func() {
		for i := range messages {
			if err := stream.SendMsg(wrapperspb.Bytes(message(i * 7))); err != nil {
				sent <- err
				return
			}
		}
		sent <- stream.CloseSend()
	}()
	sum, count := sha256.New(), 0
	for ; ; count++ {
		m := new(wrapperspb.BytesValue)
		if err := stream.RecvMsg(m); err == io.EOF {
			break
		} else if err != nil {
			return err
		}
		sum.Write(m.Value)
	}
	r.say("stream: %d messages, %x", count, sum.Sum(nil))
	return <-sent
}

func message(size int) []byte {
	b := make([]byte, size)
	for i := range b {
		b[i] = byte(i * i >> 4)
	}
	return b
}
