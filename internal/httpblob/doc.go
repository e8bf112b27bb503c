// Package httpblob reads files of known size over HTTP (RFC 9110, section 14, "Range Requests"): from any offset, with retries, and
// going on where a transfer broke. The adapters to web servers and registries share it.
package httpblob
