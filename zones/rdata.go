package zones

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"github.com/miekg/dns"
)

// rdata reads the RDATA of one record, word by word, into wire form.
type rdata struct {
	words  [][]byte // of the entry, not yet read
	origin []byte   // completes names
	wire   []byte   // what was read
}

// field is a part of RDATA and what messages call it.
type field struct {
	name string
	kind
}

// kind is a kind of field: how it is written and how it looks on the wire.
type kind struct {
	// read takes words and appends what they stand for to r.wire. There is at
	// least one word unless the field is optional.
	read func(r *rdata, name string) error
	// end returns where the field at that offset of the RDATA ends, -1 if it
	// is malformed.
	end      func(wire []byte, at int) int
	optional bool // it may take no word
}

// maxRDATA is what the length of RDATA can say, in octets.
const maxRDATA = 1<<16 - 1

// layouts has the fields of each type that has a presentation format. All
// others are written as RFC 3597 has it.
var layouts = map[uint16][]field{
	dns.TypeA:          {{"address", ipv4}},
	dns.TypeNS:         {{"server", domainName}},
	dns.TypeMD:         {{"host", domainName}},
	dns.TypeMF:         {{"host", domainName}},
	dns.TypeCNAME:      {{"target", domainName}},
	dns.TypeSOA:        {{"primary server", domainName}, {"mailbox", domainName}, {"serial", u32}, {"refresh", interval}, {"retry", interval}, {"expire", interval}, {"minimum", interval}},
	dns.TypeMB:         {{"host", domainName}},
	dns.TypeMG:         {{"mailbox", domainName}},
	dns.TypeMR:         {{"mailbox", domainName}},
	dns.TypePTR:        {{"target", domainName}},
	dns.TypeHINFO:      {{"CPU", charString}, {"OS", charString}},
	dns.TypeMINFO:      {{"mailbox", domainName}, {"mailbox for errors", domainName}},
	dns.TypeMX:         {{"preference", u16}, {"mail server", domainName}},
	dns.TypeTXT:        {{"string", charStrings}},
	dns.TypeRP:         {{"mailbox", domainName}, {"TXT name", domainName}},
	dns.TypeAFSDB:      {{"subtype", u16}, {"host", domainName}},
	dns.TypeX25:        {{"address", digitString}},
	dns.TypeISDN:       {{"address", charString}, {"subaddress", optional(charString)}},
	dns.TypeRT:         {{"preference", u16}, {"host", domainName}},
	dns.TypeNSAPPTR:    {{"target", domainName}},
	dns.TypeSIG:        rrsigFields,
	dns.TypeKEY:        keyFields,
	dns.TypePX:         {{"preference", u16}, {"RFC 822 name", domainName}, {"X.400 name", domainName}},
	dns.TypeGPOS:       {{"longitude", degrees(180)}, {"latitude", degrees(90)}, {"altitude", degrees(0)}},
	dns.TypeAAAA:       {{"address", ipv6}},
	dns.TypeLOC:        {{"latitude, longitude and altitude", sphere}},
	dns.TypeNXT:        {{"next name", domainName}, {"type", oldBitmap}},
	dns.TypeEID:        {{"endpoint", hexadecimal}},
	dns.TypeNIMLOC:     {{"locator", hexadecimal}},
	dns.TypeSRV:        {{"priority", u16}, {"weight", u16}, {"port", u16}, {"target", domainName}},
	dns.TypeNAPTR:      {{"order", u16}, {"preference", u16}, {"string of flags", charString}, {"service", charString}, {"regular expression", substitution}, {"replacement", domainName}},
	dns.TypeKX:         {{"preference", u16}, {"exchanger", domainName}},
	dns.TypeCERT:       {{"type", certificateType}, {"key tag", u16}, {"algorithm", algorithm}, {"certificate", base64Text}},
	dns.TypeDNAME:      {{"target", domainName}},
	dns.TypeAPL:        {{"prefix", aplItems}},
	dns.TypeDS:         dsFields,
	dns.TypeSSHFP:      {{"algorithm", u8}, {"type", u8}, {"fingerprint", digest(1, 1, map[byte]int{1: 20, 2: 32})}},
	dns.TypeIPSECKEY:   {{"precedence", u8}, {"gateway type", u8}, {"algorithm", u8}, {"gateway", gateway(1)}, {"public key", gatewayKey}},
	dns.TypeRRSIG:      rrsigFields,
	dns.TypeNSEC:       {{"next name", domainName}, {"type", someTypes}},
	dns.TypeDNSKEY:     keyFields,
	dns.TypeDHCID:      {{"digest", base64Text}},
	dns.TypeNSEC3:      {{"hash algorithm", u8}, {"set of flags", u8}, {"number of iterations", u16}, {"salt", saltOrDash}, {"next hash", nextHash}, {"type", typeBitmap}},
	dns.TypeNSEC3PARAM: {{"hash algorithm", u8}, {"set of flags", u8}, {"number of iterations", u16}, {"salt", saltOrDash}},
	dns.TypeTLSA:       tlsaFields,
	dns.TypeSMIMEA:     tlsaFields,
	dns.TypeHIP:        {{"algorithm, host identity tag and public key", hostIdentity}, {"rendezvous server", hostNames}},
	dns.TypeNINFO:      {{"string", charStrings}},
	dns.TypeRKEY:       keyFields,
	dns.TypeTALINK:     {{"previous name", domainName}, {"next name", domainName}},
	dns.TypeCDS:        dsFields,
	dns.TypeCDNSKEY:    keyFields,
	dns.TypeOPENPGPKEY: {{"public key", base64Text}},
	dns.TypeCSYNC:      {{"serial", u32}, {"set of flags", u16}, {"type", typeBitmap}},
	dns.TypeZONEMD:     {{"serial", u32}, {"scheme", u8}, {"hash algorithm", u8}, {"digest", digest(5, 12, map[byte]int{1: 48, 2: 64})}},
	dns.TypeSVCB:       svcbFields,
	dns.TypeHTTPS:      svcbFields,
	dns.TypeSPF:        {{"string", charStrings}},
	dns.TypeUINFO:      {{"string", charString}},
	dns.TypeUID:        {{"number", u32}},
	dns.TypeGID:        {{"number", u32}},
	dns.TypeNID:        {{"preference", u16}, {"node identifier", hexGroups}},
	dns.TypeL32:        {{"preference", u16}, {"locator", ipv4}},
	dns.TypeL64:        {{"preference", u16}, {"locator", hexGroups}},
	dns.TypeLP:         {{"preference", u16}, {"name", domainName}},
	dns.TypeEUI48:      {{"address", pairs(6)}},
	dns.TypeEUI64:      {{"address", pairs(8)}},
	dns.TypeURI:        {{"priority", u16}, {"weight", u16}, {"target", quoted(freeText, true)}},
	dns.TypeCAA:        {{"set of flags", u8}, {"tag", caaTag}, {"value", freeText}},
	dns.TypeAVC:        {{"string", charStrings}},
	dns.TypeAMTRELAY:   {{"precedence", u8}, {"discovery flag", discoveryFlag}, {"relay type", relayType}, {"relay", gateway(1)}},
	dns.TypeRESINFO:    {{"string", charStrings}},
	dns.TypeTA:         dsFields,
	dns.TypeDLV:        dsFields,
}

// Fields that several types share.
var (
	keyFields   = []field{{"set of flags", u16}, {"protocol", u8}, {"algorithm", algorithm}, {"public key", base64Text}}
	dsFields    = []field{{"key tag", u16}, {"algorithm", algorithm}, {"digest type", u8}, {"digest", digest(3, 1, map[byte]int{1: 20, 2: 32, 3: 32, 4: 48})}}
	tlsaFields  = []field{{"usage", u8}, {"selector", u8}, {"matching type", u8}, {"certificate data", hexadecimal}}
	svcbFields  = []field{{"priority", u16}, {"target", domainName}, {"parameter", svcParams}}
	rrsigFields = []field{{"type covered", typeCovered}, {"algorithm", algorithm}, {"number of labels", u8}, {"original TTL", u32}, {"expiration", timestamp},
		{"inception", timestamp}, {"key tag", u16}, {"signer", domainName}, {"signature", base64Text}}
)

// read reads all words as the RDATA of a type.
func (r *rdata) read(typ uint16) error {
	r.wire = r.wire[:0]
	fields, known := layouts[typ]
	var err error
	switch {
	case len(r.words) > 0 && string(r.words[0]) == `\#`:
		r.words = r.words[1:]
		err = r.generic(fields)
	case !known:
		err = errors.New(`it has no format of its own; write \#, the length and the octets in hexadecimal`)
	default:
		err = r.fields(fields)
	}
	if err == nil && len(r.wire) > maxRDATA {
		err = fmt.Errorf("it has %d octets of RDATA; at most %d fit", len(r.wire), maxRDATA)
	}
	if err != nil {
		return fmt.Errorf("%s record: %w", dns.Type(typ), err)
	}
	return nil
}

// fields reads the words as these fields.
func (r *rdata) fields(fields []field) error {
	for i := range fields {
		f := &fields[i]
		if len(r.words) == 0 && !f.optional {
			return fmt.Errorf("the %s is missing; %s", f.name, expected(fields))
		}
		if err := f.read(r, f.name); err != nil {
			return err
		}
	}
	if len(r.words) > 0 {
		return fmt.Errorf("%s is a field too many; %s", shown(r.words[0]), expected(fields))
	}
	return nil
}

// expected lists fields for messages.
func expected(fields []field) string {
	names := make([]string, len(fields))
	for i, f := range fields {
		names[i] = f.name
	}
	return "write: " + strings.Join(names, ", ")
}

// generic reads a length and octets in hexadecimal (RFC 3597 section 5). Where
// the fields are known, the octets must be such fields.
func (r *rdata) generic(fields []field) error {
	if len(r.words) == 0 {
		return errors.New(`the length is missing; write \#, the length and the octets in hexadecimal`)
	}
	word := r.word()
	length, ok := decimal(word, maxRDATA)
	if !ok {
		return no(word, "length", "write a whole number up to 65535")
	}
	for len(r.words) > 0 {
		word := r.word()
		var err error
		if r.wire, err = hex.AppendDecode(r.wire, word); err != nil {
			return no(word, "hexadecimal", "write two digits for each octet, none apart from the other")
		}
	}
	if len(r.wire) != int(length) {
		return fmt.Errorf(`it has %d octets, but \# says %d; make them agree`, len(r.wire), length)
	}
	if fields == nil {
		return nil
	}
	at := 0
	for _, f := range fields {
		if at = f.end(r.wire, at); at < 0 {
			return fmt.Errorf("the octets are no RDATA of this type: the %s is malformed; %s", f.name, expected(fields))
		}
	}
	if at < len(r.wire) {
		return fmt.Errorf("the octets are no RDATA of this type: %d are left over; %s", len(r.wire)-at, expected(fields))
	}
	return nil
}

// word takes the next word.
func (r *rdata) word() []byte {
	w := r.words[0]
	r.words = r.words[1:]
	return w
}

// no says that a word is not what it should be, and what to write.
func no(word []byte, name, write string) error {
	return fmt.Errorf("%s is no %s; %s", shown(word), name, write)
}

// shown is a word for messages: not too long, and nothing that a terminal obeys.
func shown(word []byte) string {
	const most = 64
	if len(word) == 0 {
		return "an empty word"
	}
	var b strings.Builder
	for i, c := range word {
		if i == most {
			b.WriteString("...")
			break
		}
		if c < ' ' || c >= 0x7f {
			fmt.Fprintf(&b, `\%03d`, c)
			continue
		}
		b.WriteByte(c)
	}
	return b.String()
}
