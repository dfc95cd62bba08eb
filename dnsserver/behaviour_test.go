package dnsserver

import (
	"encoding/hex"
	"flag"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/miekg/dns"
	"github.com/rs/zerolog"
	"golang.org/x/tools/txtar"

	"nearside/geo"
	"nearside/zones"
)

var update = flag.Bool("update", false, "write what was answered into testdata")

// TestBehaviour replays testdata/*.txt. A file holds zones, perhaps regions, and
// a session: lines that begin with ">" say something to the server, the lines
// after them are its answer in dig's words.
//
//	> NAME TYPE [from=ADDR] [subnet=PREFIX] [bufsize=N] [tcp] [do] [cd] [rd] [class=C]
//	    [version=N] [opcode=O] [nsid] [keepalive] [cookie=HEX] [size]
//	> counted
//
// Lines that change the state, or let time pass, are in fixture_test.go. Clients are
// placed by the built-in database.
func TestBehaviour(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal("no testdata", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			archive, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			session := slices.IndexFunc(archive.Files, func(f txtar.File) bool { return f.Name == "session" })
			want := string(archive.Files[session].Data)
			got := newBench(t, archive).replay(t, want)
			if *update {
				archive.Files[session].Data = []byte(got)
				if err := os.WriteFile(file, txtar.Format(archive), 0o644); err != nil {
					t.Fatal(err)
				}
			} else if got != want {
				t.Errorf("%s: answers differ (-update writes the new ones)\n%s", file, diff(want, got))
			}
		})
	}
}

// udpRoom is the buffer of a datagram.
var udpRoom = strideFor(DefaultLimits.UDPSize)

// bench is a responder with what it answers from.
type bench struct {
	*health
	snapshot *Snapshot
	r        responder

	told map[string]uint64 // by the last "> counted"
}

var builtin = sync.OnceValues(geo.Builtin)

func newBench(t testing.TB, archive *txtar.Archive) *bench {
	t.Helper()
	b := &bench{r: newResponder(new(counts), new(atomic.Uint32), DefaultLimits, zerolog.Nop())}
	b.r.clock.Store(rfc9018Time)
	dir := t.TempDir()
	settings := make(map[string]string)
	for _, f := range archive.Files {
		switch f.Name {
		case "regions", "services", "policy", "session":
			settings[f.Name] = string(f.Data)
		default:
			if err := os.WriteFile(filepath.Join(dir, f.Name), f.Data, 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	b.health = newHealth(t, readTable(t, settings["regions"], settings["services"], settings["policy"]))
	store := zones.NewStore(zones.StoreConfig{Dir: dir, Steering: Steering(b.table, nil), Log: zerolog.Nop()})
	view := store.Reload()
	for _, s := range store.Status() {
		if s.State != zones.StateOK && !strings.HasPrefix(s.Origin, "failed") {
			t.Fatalf("zone %s: %v", s.Origin, s.Faults)
		}
	}
	policy := Policy{Believed: []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")}, NegativeTTL: 10, ID: "ns1"}
	secrets := NewSecrets(rfc9018Secret)
	if b.table.Len() == 0 {
		b.snapshot = Compile(view, nil, nil, policy).WithSecrets(secrets)
		return b
	}
	db, err := builtin()
	if err != nil {
		t.Fatal(err)
	}
	places, err := BuildPlaces(db, b.table, 8)
	if err != nil {
		t.Fatal(err)
	}
	b.snapshot = Compile(view, places, b.state, policy).WithSecrets(secrets)
	return b
}

// counted returns one of the responder's counters.
func (b *bench) counted(i counter) uint64 {
	b.r.counts.publish()
	return b.r.counts.load(i)
}

// answers writes what was counted of steered answers since it was last asked.
func (b *bench) answers() string {
	now := map[string]uint64{"drained": b.counted(countAllDrained), "withheld": b.counted(countWithheld)}
	for id := range b.table.All().All() {
		now[b.table.Name(id)] = b.counted(countRegion + counter(id))
	}
	line := " "
	for _, name := range append(b.table.Names(b.table.All()), "drained", "withheld") {
		if n := now[name] - b.told[name]; n > 0 {
			line += fmt.Sprintf(" %s=%d", name, n)
		}
	}
	b.told = now
	return line + "\n"
}

// replay runs the session and returns it with the answers given now.
func (b *bench) replay(t *testing.T, session string) string {
	var out strings.Builder
	for line := range strings.Lines(session) {
		switch command, is := strings.CutPrefix(line, "> "); {
		case is:
			out.WriteString(line)
			out.WriteString(b.command(t, strings.Fields(command)))
		case strings.TrimSpace(line) == "" || line[0] == '#':
			out.WriteString(line)
		}
	}
	return out.String()
}

func (b *bench) command(t *testing.T, words []string) string {
	if words[0] == "counted" {
		return b.answers()
	}
	if b.change(t, words) {
		b.snapshot = b.snapshot.WithState(b.state)
		return ""
	}
	return b.ask(t, words)
}

// ask sends one query through the responder and writes the response as text.
func (b *bench) ask(t *testing.T, words []string) string {
	q := new(dns.Msg)
	q.SetQuestion(words[0], dns.StringToType[words[1]])
	q.RecursionDesired = false
	from, stream, size := netip.MustParseAddr("127.0.0.1"), false, false
	for _, w := range words[2:] {
		option, value, _ := strings.Cut(w, "=")
		switch option {
		case "from":
			from = netip.MustParseAddr(value)
		case "subnet":
			setSubnet(q, netip.MustParsePrefix(value))
		case "bufsize":
			size, err := strconv.Atoi(value)
			if err != nil {
				t.Fatal(err)
			}
			edns(q).SetUDPSize(uint16(size))
		case "tcp":
			stream = true
		case "size":
			size = true
		case "do":
			edns(q).SetDo()
		case "cd":
			q.CheckingDisabled = true
		case "rd":
			q.RecursionDesired = true
		case "class":
			q.Question[0].Qclass = dns.StringToClass[value]
		case "version":
			edns(q).SetVersion(value[0] - '0')
		case "nsid":
			edns(q).Option = append(edns(q).Option, &dns.EDNS0_NSID{Code: dns.EDNS0NSID})
		case "keepalive":
			edns(q).Option = append(edns(q).Option, &dns.EDNS0_TCP_KEEPALIVE{Code: dns.EDNS0TCPKEEPALIVE})
		case "cookie":
			edns(q).Option = append(edns(q).Option, &dns.EDNS0_COOKIE{Code: dns.EDNS0COOKIE, Cookie: value})
		case "opcode":
			q.Opcode = dns.StringToOpcode[value]
		default:
			t.Fatalf("no such option: %s", w)
		}
	}
	wire, err := q.Pack()
	if err != nil {
		t.Fatal(err)
	}
	room := udpRoom
	if stream {
		room = wholeTCP
	}
	buf := make([]byte, room)
	n := b.r.respond(b.snapshot, buf, copy(buf, wire), from, stream)
	if n == 0 {
		return "silence\n"
	}
	m := new(dns.Msg)
	if err := m.Unpack(buf[:n]); err != nil {
		return fmt.Sprintf("unreadable response of %d octets: %v\n", n, err)
	}
	if m.Id != q.Id {
		return "wrong id\n"
	}
	if size {
		return strings.Replace(inDigsWords(m), "\n", fmt.Sprintf(" %d octets\n", n), 1)
	}
	return inDigsWords(m)
}

func edns(q *dns.Msg) *dns.OPT {
	if q.IsEdns0() == nil {
		q.SetEdns0(1232, false)
	}
	return q.IsEdns0()
}

func setSubnet(q *dns.Msg, p netip.Prefix) {
	e := &dns.EDNS0_SUBNET{Code: dns.EDNS0SUBNET, Family: 1, SourceNetmask: uint8(p.Bits()), Address: net.IP(p.Addr().AsSlice())}
	if p.Addr().Is6() {
		e.Family = 2
	}
	o := edns(q)
	o.Option = append(o.Option, e)
}

// inDigsWords writes a response: status and flags, then a line for each record.
func inDigsWords(m *dns.Msg) string {
	var out strings.Builder
	out.WriteString(dns.RcodeToString[m.Rcode])
	for _, flag := range []struct {
		set  bool
		name string
	}{{m.Response, "qr"}, {m.Authoritative, "aa"}, {m.Truncated, "tc"}, {m.RecursionDesired, "rd"}, {m.RecursionAvailable, "ra"}, {m.AuthenticatedData, "ad"}, {m.CheckingDisabled, "cd"}, {m.Zero, "z"}} {
		if flag.set {
			out.WriteString(" " + flag.name)
		}
	}
	if opt := m.IsEdns0(); opt != nil {
		fmt.Fprintf(&out, " edns=%d,%d", opt.Version(), opt.UDPSize())
		if opt.Do() {
			out.WriteString(",do")
		}
		for _, o := range opt.Option {
			switch o := o.(type) {
			case *dns.EDNS0_SUBNET:
				addr, _ := netip.AddrFromSlice(o.Address)
				fmt.Fprintf(&out, " subnet=%s/%d scope=%d", addr.Unmap(), o.SourceNetmask, o.SourceScope)
			case *dns.EDNS0_NSID:
				id, _ := hex.DecodeString(o.Nsid)
				fmt.Fprintf(&out, " nsid=%q", id)
			case *dns.EDNS0_TCP_KEEPALIVE:
				fmt.Fprintf(&out, " keepalive=%d", o.Timeout)
			case *dns.EDNS0_COOKIE:
				fmt.Fprintf(&out, " cookie=%s", o.Cookie)
			case *dns.EDNS0_EDE:
				fmt.Fprintf(&out, " ede=%d", o.InfoCode)
				if o.ExtraText != "" {
					fmt.Fprintf(&out, " (%s)", o.ExtraText)
				}
			default:
				fmt.Fprintf(&out, " option=%d", o.Option())
			}
		}
	}
	if len(m.Question) != 1 {
		fmt.Fprintf(&out, " questions=%d", len(m.Question))
	}
	out.WriteString("\n")
	for _, section := range []struct {
		name    string
		records []dns.RR
	}{{"answer", m.Answer}, {"authority", m.Ns}, {"additional", m.Extra}} {
		for _, rr := range section.records {
			if rr.Header().Rrtype != dns.TypeOPT {
				fmt.Fprintf(&out, "  %-10s %s\n", section.name, strings.Join(strings.Fields(rr.String()), " "))
			}
		}
	}
	return out.String()
}

// diff shows each query whose answer differs, its lines marked: "-" for what was
// wanted and "+" for what came.
func diff(want, got string) string {
	var out strings.Builder
	w, g := exchanges(want), exchanges(got)
	for i := range w {
		if w[i] == g[i] {
			continue
		}
		missing, more := strings.Split(w[i], "\n"), strings.Split(g[i], "\n")
		for _, line := range missing {
			switch n := slices.Index(more, line); {
			case n < 0:
				out.WriteString("- " + line + "\n")
			default:
				for _, new := range more[:n] {
					out.WriteString("+ " + new + "\n")
				}
				out.WriteString("  " + line + "\n")
				more = more[n+1:]
			}
		}
		for _, new := range more {
			out.WriteString("+ " + new + "\n")
		}
	}
	return out.String()
}

// exchanges splits a session into queries with their answers.
func exchanges(session string) []string {
	var list []string
	for line := range strings.Lines("> \n" + session) {
		if strings.HasPrefix(line, "> ") {
			list = append(list, "")
		}
		list[len(list)-1] += line
	}
	for i := range list {
		list[i] = strings.TrimSuffix(list[i], "\n")
	}
	return list
}
