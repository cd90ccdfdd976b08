// A test of ours beside containerd's: lib/compile puts it into the CRI tests, with
// the import path of that release in place of CONTAINERD.
package integration

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"CONTAINERD/integration/images"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// A container that ends while containerd is down has its own exit code and time
// afterwards, and can be removed. So has one that had ended before.
func TestExitWhileContainerdIsDown(t *testing.T) {
	const endsBefore, endsMeanwhile = 5, 7
	gates := t.TempDir()
	sandbox, sandboxConfig := PodSandboxConfigWithCleanup(t, "sandbox", "exit-while-down")
	image := images.Get(images.BusyBox)
	EnsureImageExists(t, image)

	run := func(name, script string) string {
		config := ContainerConfig(name, image, WithCommand("sh", "-c", script), WithVolumeMount(gates, "/gates"))
		id, err := runtimeService.CreateContainer(sandbox, config, sandboxConfig)
		require.NoError(t, err)
		require.NoError(t, runtimeService.StartContainer(id))
		return id
	}
	gone := func() bool {
		pid, err := PidOf("containerd")
		return err == nil && pid == 0
	}
	before := run("before", "exit 5")
	require.NoError(t, Eventually(func() (bool, error) {
		status, err := runtimeService.ContainerStatus(before)
		return err == nil && status.GetState() == runtime.ContainerState_CONTAINER_EXITED, nil
	}, 100*time.Millisecond, 30*time.Second))
	meanwhile := run("meanwhile", "while [ ! -e /gates/go ]; do sleep 0.1; done; touch /gates/gone; exit 7")

	require.NoError(t, KillProcess("containerd", syscall.SIGKILL))
	require.Eventually(t, gone, 30*time.Second, time.Millisecond)
	require.NoError(t, os.WriteFile(filepath.Join(gates, "go"), nil, 0o600))
	require.Eventually(t, func() bool {
		_, err := os.Stat(filepath.Join(gates, "gone"))
		return err == nil
	}, 30*time.Second, time.Millisecond)
	ended := time.Now()
	// The harness starts it again after two seconds and more.
	require.True(t, gone(), "containerd is back too early for this test")
	require.NoError(t, Eventually(func() (bool, error) {
		return ConnectDaemons() == nil, nil
	}, 100*time.Millisecond, 60*time.Second))

	for id, code := range map[string]int32{before: endsBefore, meanwhile: endsMeanwhile} {
		status, err := runtimeService.ContainerStatus(id)
		require.NoError(t, err)
		assert.Equal(t, runtime.ContainerState_CONTAINER_EXITED, status.GetState())
		assert.Equal(t, code, status.GetExitCode(), status.GetReason())
		assert.WithinRange(t, time.Unix(0, status.GetFinishedAt()), ended.Add(-2*time.Minute), ended.Add(2*time.Second))
		assert.NoError(t, runtimeService.RemoveContainer(id))
	}
}
