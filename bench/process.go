package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// process is a running program with the processes it has started.
type process struct {
	cmd *exec.Cmd
	log string // the file with what it prints
	end chan error
}

// start runs a program on the given cores, in a folder.
func start(cores, dir string, environment []string, command ...string) (*process, error) {
	p := &process{log: filepath.Join(dir, "log"), end: make(chan error, 1)}
	f, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	p.cmd = exec.Command("taskset", append([]string{"--cpu-list", cores}, command...)...)
	p.cmd.Dir, p.cmd.Stdout, p.cmd.Stderr = dir, f, f
	p.cmd.Env = append(os.Environ(), environment...)
	// It ends with this program at the latest, and with it what it started. A session
	// of its own, as a daemon has, is also a group of its own for the scheduler: in
	// ours, the load would take the share of the server on a busy machine.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM, Setsid: true}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go func() { p.end <- p.cmd.Wait() }()
	return p, nil
}

func (p *process) pid() int { return p.cmd.Process.Pid }

// stop ends the process and all that it started.
func (p *process) stop() {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case err := <-p.end:
		p.end <- err // for whoever asks again
	case <-time.After(10 * time.Second):
	}
	_ = syscall.Kill(-p.pid(), syscall.SIGKILL)
}

// failed returns why the process has ended, if it has.
func (p *process) failed() error {
	select {
	case err := <-p.end:
		p.end <- err
		text, _ := os.ReadFile(p.log)
		return fmt.Errorf("%s has ended (%v):\n%s", p.cmd, err, text)
	default:
		return nil
	}
}

// tree returns the ids of the process and of all below it.
func (p *process) tree() []int {
	pids := []int{p.pid()}
	for i := 0; i < len(pids); i++ {
		tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pids[i]))
		for _, t := range tasks {
			text, _ := os.ReadFile(t)
			for child := range strings.FieldsSeq(string(text)) {
				if pid, err := strconv.Atoi(child); err == nil {
					pids = append(pids, pid)
				}
			}
		}
	}
	return pids
}

// usage is what cores have spent on a process.
type usage struct {
	total        time.Duration // exact
	user, system uint64        // clock ticks: the kernel's split of it
}

func (u usage) minus(o usage) usage {
	return usage{u.total - o.total, u.user - o.user, u.system - o.system}
}

// inUser is the part of the time that was not the kernel's.
func (u usage) inUser() time.Duration {
	return time.Duration(float64(u.total) * float64(u.user) / float64(max(1, u.user+u.system)))
}

// usage sums up over the tree. Those that have ended do not count.
func (p *process) usage() (sum usage, err error) {
	for _, pid := range p.tree() {
		total, err := cpuTime(pid)
		if err != nil {
			return sum, err
		}
		user, system, err := ticks(pid)
		if err != nil {
			return sum, err
		}
		sum.total += total
		sum.user += user
		sum.system += system
	}
	return sum, nil
}

// cpuTime reads the CPU clock of a process, in nanoseconds: clock_getcpuclockid(3)
// tells how its number is made.
func cpuTime(pid int) (time.Duration, error) {
	const scheduler = 2
	var t unix.Timespec
	if err := unix.ClockGettime(int32(^pid<<3|scheduler), &t); err != nil {
		return 0, fmt.Errorf("CPU clock of process %d: %w", pid, err)
	}
	return time.Duration(t.Nano()), nil
}

// ticks reads utime and stime: fields 14 and 15 of proc_pid_stat(5).
func ticks(pid int) (user, system uint64, err error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, 0, err
	}
	fields := bytes.Fields(text[bytes.LastIndexByte(text, ')')+1:])
	if len(fields) < 13 {
		return 0, 0, fmt.Errorf("/proc/%d/stat: %d fields", pid, len(fields))
	}
	if user, err = strconv.ParseUint(string(fields[11]), 10, 64); err != nil {
		return 0, 0, err
	}
	system, err = strconv.ParseUint(string(fields[12]), 10, 64)
	return user, system, err
}

// memory is the proportional set size of the tree in octets: memory that
// processes share counts once.
func (p *process) memory() (int64, error) {
	var sum int64
	for _, pid := range p.tree() {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
		if err != nil {
			return 0, err
		}
		_, after, _ := strings.Cut(string(text), "\nPss:")
		kilobytes, err := strconv.ParseInt(strings.Fields(after + " ?")[0], 10, 64)
		if err != nil {
			return 0, fmt.Errorf("/proc/%d/smaps_rollup: no Pss", pid)
		}
		sum += kilobytes << 10
	}
	return sum, nil
}

// forgetPeak has the kernel count the peak of the memory from now on.
func (p *process) forgetPeak() error {
	const peak = "5" // proc_pid_clear_refs(5)
	return os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", p.pid()), []byte(peak), 0)
}

// peakMemory is the most that the process has had resident, in octets.
func (p *process) peakMemory() (int64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.pid()))
	if err != nil {
		return 0, err
	}
	_, after, _ := strings.Cut(string(text), "VmHWM:")
	kilobytes, err := strconv.ParseInt(strings.Fields(after + " ?")[0], 10, 64)
	return kilobytes << 10, err
}
