// Package channel reads and writes documents that say which release of a system is to be installed:
// the vendor signs them, and a machine accepts them for a limited time. A signature of a release
// names its vendor; the document of a channel says whether it is the newest, meant for this
// machine, and not withdrawn: product, channel, versions with digests, a floor below which no
// version goes, how many of a thousand cohorts of machines each version is offered to, an expiry
// time, and a sequence number.
//
// The vendor edits the last document and signs the next one, as an OCI artifact beside the
// releases:
//
//	var last *channel.Document // from Parse
//	next := last.Next(time.Now().AddDate(0, 0, 14))
//	if err := next.Publish("5", digest, 50); err != nil { // to five percent of the machines
//		return err
//	}
//	artifact, err := channel.Write(store, "stable", next)
//	if err != nil {
//		return err
//	}
//	err = cosign.Sign(ctx, store, artifact, key, cosign.SignOptions{})
//
// A machine fetches it from any mirror, which need not be trusted:
//
//	document, state, err := channel.Fetch(ctx, source, channel.Request{Product: "acme", Channel: "stable", Now: time.Now(), State: state})
//	if err != nil {
//		return err // *OlderError, *ExpiredError, *OtherError, ErrTwoDocuments, or what the source says about signatures
//	}
//	// Keep the state before anything else: it is what a later answer is checked against.
//	choice := document.Choose(channel.Machine{ID: machineID, Running: "4"})
//	fmt.Println(choice) // version 5, or why not: "not yet: this machine is in cohort 734, ..."
//
// # What a mirror cannot do
//
// A mirror can withhold documents and releases, and nothing else. An old document is refused by its
// sequence number (rollback); a machine that has never seen a newer one accepts it only until it
// expires (freeze). A release is named by its digest, so that versions of different documents
// cannot be combined (mix and match). Two documents with one number are refused, too.
// docs/release.md has the table, and says what The Update Framework gives beyond this. Its client
// can be the [DocumentSource]: what it delivers is the same document.
//
// # Keys
//
// The [DocumentSource] checks signatures: by a policy that the machine has, until a document names
// other signers (Document.Signers). Those are kept with the state and count from then on. While
// keys change, documents are signed with old and new keys; a document accepted under the old keys
// names the new ones, and machines follow by themselves.
//
// # Limits
//
// A document has at most 1 MiB and 1,000 releases. It has one form: what Parse accepts is what
// Marshal writes, byte for byte.
package channel
