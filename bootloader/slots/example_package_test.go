package slots_test

import (
	"fmt"
	"log"

	"github.com/osmith-dev/osmith/bootloader/slots"
)

// ChromeOS and Flatcar keep the state of their slots in bits of the partition table: slot 4 is new
// and has two tries, slot 2 is good.
func Example() {
	kernel := slots.GPTChromeOS.SlotType()
	store, err := slots.NewGPTPrio(slots.GPTChromeOS, []slots.GPTPartition{
		{Number: 2, Type: kernel, Attributes: 0x0101_0000_0000_0000},
		{Number: 4, Type: kernel, Attributes: 0x0022_0000_0000_0000},
	})
	if err != nil {
		log.Fatal(err)
	}
	for _, start := range slots.Predict(store).Starts {
		fmt.Println("starts slot", start.Slot)
	}
	// 4 came up and is good:
	change, err := store.Mark(slots.Mark{Slot: "4", As: slots.AsGood})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(len(change.Writes), "write")
	// Output:
	// starts slot 4
	// starts slot 4
	// starts slot 2
	// 1 write
}
