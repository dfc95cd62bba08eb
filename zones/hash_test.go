package zones

import (
	"bytes"
	"math/rand/v2"
	"testing"
)

// Lower is the lower case octet by octet, and its hash is that of what it wrote,
// however long the name.
func TestLower(t *testing.T) {
	random := rand.New(rand.NewPCG(7, 8))
	for n := 1; n <= maxName; n++ {
		for range 100 {
			name, want := make([]byte, n), make([]byte, n)
			for i := range name {
				name[i] = byte(random.Uint32())
				want[i] = lower(name[i])
			}
			var dst [maxName]byte
			if hash := Lower(dst[:], name); !bytes.Equal(dst[:n], want) || hash != Hash(want) {
				t.Fatalf("%x becomes %x with the hash %x, want %x and %x", name, dst[:n], hash, want, Hash(want))
			}
		}
	}
}

// Names that differ in an octet or in length alone have hashes that differ, each
// bit of them every other time.
func TestHash(t *testing.T) {
	random := rand.New(rand.NewPCG(9, 10))
	for n := 2; n < 70; n++ {
		var flips [64]int
		const times = 400
		for range times {
			name := make([]byte, n)
			for i := range name {
				name[i] = 'a' + byte(random.IntN(26))
			}
			hash := Hash(name)
			name[random.IntN(n)] ^= 1 << random.IntN(4)
			changed := hash ^ Hash(name)
			for bit := range flips {
				flips[bit] += int(changed >> bit & 1)
			}
			if changed == 0 || Hash(name[:n-1]) == Hash(name) {
				t.Fatalf("the hash of %q does not tell it from another name", name)
			}
		}
		for bit, k := range flips {
			if k < times/4 || k > times*3/4 {
				t.Errorf("of names of %d octets, bit %d of the hash changes %d times out of %d", n, bit, k, times)
			}
		}
	}
}
