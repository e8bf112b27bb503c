package cosign_test
import ("testing";"os";"fmt";"time";"path/filepath"
 "github.com/osmith-dev/osmith/internal/testtools"
 "github.com/opencontainers/go-digest"
)
func digestOf(b []byte) digest.Digest { return digest.FromBytes(b) }
func TestX(t *testing.T) {
 r := newRegistry(t)
 layer := []byte("layer"); cfg := []byte("{}")
 r.blobs[sum(layer)] = layer; r.blobs[sum(cfg)] = cfg
 m := fmt.Sprintf(`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","artifactType":"application/vnd.osmith.release.v1","config":{"mediaType":"application/vnd.oci.empty.v1+json","digest":"%s","size":2},"layers":[{"mediaType":"application/octet-stream","digest":"%s","size":5}]}`, sum(cfg), sum(layer))
 d := r.putManifest([]byte(m), "v1")
 ref := r.reference(d)
 dir := t.TempDir()
 dir = "/tmp/exp/out"; os.RemoveAll(dir); os.MkdirAll(dir, 0o755)
 f := testtools.Forky(t); tx := testtools.Trixie(t)
 try := func(root testtools.Root, args ...string) {
   st := time.Now()
   out, err := root.Try(t, dir, "env", append([]string{"COSIGN_PASSWORD=x", "SIGSTORE_NO_CACHE=true", "cosign"}, args...)...)
   fmt.Println("=====", root.Name, args, err==nil, time.Since(st)); fmt.Println(out, err)
 }
 try(tx, "generate-key-pair")
 for _, k := range []string{"p384","ed25519","rsa"} {
   switch k {
   case "p384": testtools.Run(t, "openssl","genpkey","-algorithm","EC","-pkeyopt","ec_paramgen_curve:P-384","-out",filepath.Join(dir,k+".pem"))
   case "ed25519": testtools.Run(t, "openssl","genpkey","-algorithm","ED25519","-out",filepath.Join(dir,k+".pem"))
   case "rsa": testtools.Run(t, "openssl","genpkey","-algorithm","RSA","-pkeyopt","rsa_keygen_bits:2048","-out",filepath.Join(dir,k+".pem"))
   }
   testtools.Run(t, "openssl","pkey","-in",filepath.Join(dir,k+".pem"),"-pubout","-out",filepath.Join(dir,k+".pub"))
   try(f, "import-key-pair","--key",k+".pem","--output-key-prefix","i"+k)
 }
 try(tx, "sign","-y","--key","cosign.key","--tlog-upload=false",ref)
 try(f, "signing-config","create","--out","sc.json")
 try(f, "sign","-y","--key","cosign.key","--signing-config","sc.json",ref)
 for _, k := range []string{"p384","ed25519","rsa"} {
 try(f, "sign","-y","--key","i"+k+".key","--signing-config","sc.json",ref)
 try(tx, "sign","-y","--key","i"+k+".key","--tlog-upload=false",ref)
 }
 try(f, "sign","-y","--key","cosign.key","--new-bundle-format=false","--use-signing-config=false","--tlog-upload=false",ref)
 try(f, "save","--dir","fsave",ref)
 try(tx, "save","--dir","tsave",ref)
 try(f, "verify","--key","cosign.pub","--insecure-ignore-tlog=true",ref)
 try(tx, "verify","--key","cosign.pub","--insecure-ignore-tlog=true",ref)
 try(tx, "verify","--key","cosign.pub","--insecure-ignore-tlog=true", "--local-image","tsave")
 for d, m := range r.manifests { fmt.Println(d, string(m)) }
 for d, m := range r.blobs { fmt.Println(d, string(m)) }
 fmt.Println(r.tags)
}
