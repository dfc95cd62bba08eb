package regions

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// ServiceID is the index of a service in the configured order, from 1. Anyone is
// the service of the names that belong to none.
type ServiceID uint16

// Anyone is the service of names that belong to no configured one. Its drains and
// votes are those of the regions themselves.
const Anyone ServiceID = 0

// MaxServices is the largest number of services.
const MaxServices = 1000

// Service is a group of names that share a policy, votes and a drain switch.
type Service struct {
	Name  string
	Names []string // in any case, absolute or not; "*.x" covers every name below x

	// Regions are those that may answer, in the order of failover; none: all,
	// as configured.
	Regions     []ID
	Failover    bool   // the first of Regions that can, wherever the client is
	TTL         uint32 // of its steered answers at most, in seconds; 0: Policy.TTL
	OnExhausted Exhausted

	members Set  // of Regions
	order   []ID // every region, those of Regions first
}

// Exhausted is who answers when no region is up or returning.
type Exhausted struct {
	Kind   ExhaustedKind
	Region ID // of OneRegion
}

// ExhaustedKind tells the forms of Exhausted apart.
type ExhaustedKind uint8

const (
	AnyRegion ExhaustedKind = iota // standby regions, else what is down but not fully drained
	NoRegion                       // NODATA
	OneRegion                      // a named region, unless it is fully drained
)

// Policy is what holds for all regions.
type Policy struct {
	MaxOut int           // percent of the weight that drains may put out
	Hold   time.Duration // from the return of a region that was sick until it is used
	Ramp   time.Duration // from then until all its clients are back
	TTL    uint32        // of steered answers at most, in seconds, unless the service says otherwise
}

// With returns the table with services and rules. An error names the service and
// what is wrong with it.
func (t *Table) With(services []Service, policy Policy) (*Table, error) {
	if len(services) > MaxServices {
		return nil, fmt.Errorf("%d services: at most %d are possible", len(services), MaxServices)
	}
	next := *t
	next.policy = policy
	next.services = []Service{t.anyone()}
	next.longest = policy.TTL
	next.names = Names[ServiceID]{}
	for _, s := range services {
		if err := CheckName(s.Name); err != nil {
			return nil, fmt.Errorf("service %q: %w", s.Name, err)
		}
		if _, twice := next.ServiceNamed(s.Name); twice {
			return nil, fmt.Errorf("service %s is listed twice", s.Name)
		}
		for _, name := range s.Names {
			if other, taken := next.names[canonical(name)]; taken {
				return nil, fmt.Errorf("service %s: the name %s belongs to service %s", s.Name, name, append(next.services, s)[other].Name)
			}
			next.names.Add(name, ServiceID(len(next.services)))
		}
		for i, id := range s.Regions {
			if slices.Contains(s.Regions[:i], id) {
				return nil, fmt.Errorf("service %s: region %s is listed twice", s.Name, t.Name(id))
			}
		}
		next.services = append(next.services, t.arranged(s))
		next.longest = max(next.longest, s.TTL)
	}
	return &next, nil
}

// anyone is the service of names that belong to none.
func (t *Table) anyone() Service { return t.arranged(Service{}) }

// arranged fills in what follows from the configuration of a service.
func (t *Table) arranged(s Service) Service {
	if len(s.Regions) == 0 {
		s.Regions = t.Listed()
	}
	s.members = SetOf(s.Regions...)
	s.order = slices.Clone(s.Regions)
	for id := range (t.All() &^ s.members).All() {
		s.order = append(s.order, id)
	}
	return s
}

// usable returns the regions that could ever answer for s.
func (t *Table) usable(s *Service) Set {
	switch s.OnExhausted.Kind {
	case AnyRegion:
		return s.members
	case OneRegion:
		return s.members&^t.standby | SetOf(s.OnExhausted.Region)
	}
	return s.members &^ t.standby
}

// Policy returns the rules.
func (t *Table) Policy() Policy { return t.policy }

// Services returns the number of services, Anyone included.
func (t *Table) Services() int { return len(t.services) }

// Service returns a service as configured.
func (t *Table) Service(id ServiceID) Service { return t.services[id] }

// TTL returns the cap on the TTLs of a service's steered answers, in seconds.
func (t *Table) TTL(id ServiceID) uint32 { return cmp.Or(t.services[id].TTL, t.policy.TTL) }

// LongestTTL returns how long any steered answer may be kept, in seconds.
func (t *Table) LongestTTL() uint32 { return t.longest }

// ServiceNamed returns the service of that name.
func (t *Table) ServiceNamed(name string) (ServiceID, bool) {
	if name == "" {
		return 0, false
	}
	i := slices.IndexFunc(t.services, func(s Service) bool { return s.Name == name })
	return ServiceID(max(i, 0)), i > 0
}

// ServiceOf returns the service of a name (lower case, absolute, with the final
// dot), Anyone if none lists it.
func (t *Table) ServiceOf(name string) ServiceID {
	id, _ := t.names.Of(name)
	return id
}
