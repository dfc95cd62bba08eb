package probes

import "time"

// State is what a Prober says of itself, all at one moment.
type State struct {
	Host   string   `json:"host"`
	Live   bool     `json:"live"`            // whether its votes count
	Why    string   `json:"why,omitempty"`   // they do not
	Stuck  string   `json:"stuck,omitempty"` // what does not run as it should
	Probes []Result `json:"probes"`
}

// Result is what came of one probe.
type Result struct {
	Region  string        `json:"region"`
	Service string        `json:"service,omitempty"`
	Target  string        `json:"target"`
	Status  Status        `json:"status"`
	Since   time.Time     `json:"since"`
	Detail  string        `json:"detail,omitempty"` // why it is down
	Last    time.Time     `json:"last"`             // when the last check came to a result; zero if none did
	Took    time.Duration `json:"took"`             // the last check
	Passed  uint64        `json:"passed"`
	Failed  uint64        `json:"failed"`
	Void    uint64        `json:"void"` // checks that came to no result, for a reason that lies on this host
}

// State returns how things are.
func (p *Prober) State() State {
	stuck := p.late()
	p.mu.Lock()
	defer p.mu.Unlock()
	state := State{Host: p.config.Host, Live: p.live, Probes: make([]Result, len(p.runners))}
	if p.fault != nil {
		state.Why = p.fault.Error()
	}
	if stuck != nil {
		state.Stuck = stuck.Error()
	}
	for i, r := range p.runners {
		result := Result{
			Region: r.probe.Region, Service: r.probe.Service, Target: r.probe.Name(),
			Status: r.health.status, Since: r.health.since, Detail: r.why(),
			Took: r.took, Passed: r.passed, Failed: r.failed, Void: r.void,
		}
		if r.passed+r.failed > 0 {
			result.Last = r.last
		}
		state.Probes[i] = result
	}
	return state
}
