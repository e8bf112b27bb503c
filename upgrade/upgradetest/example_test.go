package upgradetest_test

import (
	"context"
	"fmt"

	"github.com/osmith-dev/osmith/internal/faultio"
	"github.com/osmith-dev/osmith/upgrade/upgradetest"
)

// A disk that holds nothing leaves the machine stuck: that is an outcome, not an error.
func ExampleMachine_Boot() {
	m := upgradetest.Machine{Disk: faultio.NewDisk(1 << 20)}
	boot, err := m.Boot(context.Background())
	if err != nil {
		panic(err)
	}
	fmt.Println(boot.Outcome)
	// Output: stuck
}
