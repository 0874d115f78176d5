// Command localkube is the programs of one Kubernetes node in one binary: its first argument says which.
//
// They are the upstream programs, built from their published modules and called by their own entry points, so that
// a machine which reaches nothing but Go's module proxy gets a real cluster. It adds no behaviour of its own.
package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"go.etcd.io/etcd/server/v3/etcdmain"
	_ "k8s.io/client-go/plugin/pkg/client/auth" // kubectl's ways to log in.
	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/logs/json/register"          // --logging-format=json.
	_ "k8s.io/component-base/metrics/prometheus/clientgo" // The client's metrics at /metrics.
	_ "k8s.io/component-base/metrics/prometheus/version"  // The version's metric at /metrics.
	"k8s.io/component-base/version"
	kubectl "k8s.io/kubectl/pkg/cmd"
	kubectlutil "k8s.io/kubectl/pkg/cmd/util"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllermanager "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	proxy "k8s.io/kubernetes/cmd/kube-proxy/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
	kubelet "k8s.io/kubernetes/cmd/kubelet/app"
)

// programs holds each program's entry point, which returns its exit code.
var programs = map[string]func() int{
	"etcd":                    runEtcd,
	"kube-apiserver":          upstream(apiserver.NewAPIServerCommand),
	"kube-controller-manager": upstream(controllermanager.NewControllerManagerCommand),
	"kube-proxy":              upstream(proxy.NewProxyCommand),
	"kube-scheduler":          upstream(func() *cobra.Command { return scheduler.NewSchedulerCommand() }),
	"kubelet":                 upstream(func() *cobra.Command { return kubelet.NewKubeletCommand(context.Background()) }),
	"kubectl":                 runKubectl,
	"version":                 printVersion,
}

func main() {
	name, err := choose(os.Args)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	// Each program reads os.Args itself, as if it had been started under its own name.
	os.Args = append([]string{name}, os.Args[2:]...)
	os.Exit(programs[name]())
}

// choose returns the program that the first argument names.
func choose(arguments []string) (string, error) {
	known := strings.Join(slices.Sorted(maps.Keys(programs)), ", ")
	if len(arguments) < 2 {
		return "", errors.New("localkube: name a program first: " + known)
	}
	if _, found := programs[arguments[1]]; !found {
		return "", fmt.Errorf("localkube: no program %q; there are %s", arguments[1], known)
	}
	return arguments[1], nil
}

func upstream(command func() *cobra.Command) func() int {
	return func() int { return cli.Run(command()) }
}

func runEtcd() int {
	etcdmain.Main(os.Args)
	return 0
}

func runKubectl() int {
	// As upstream's main: errors come out in kubectl's own words and exit codes.
	if err := cli.RunNoErrOutput(kubectl.NewDefaultKubectlCommand()); err != nil {
		kubectlutil.CheckErr(err)
	}
	return 0
}

func printVersion() int {
	fmt.Println(version.Get().GitVersion)
	return 0
}
