package sealing
import ("testing";"os";"fmt";"crypto/sha256")
func TestZZ(t *testing.T){
 d,err:=Open("swtpm:127.0.0.1:24310"); if err!=nil{t.Fatal(err)}
 s:=&simulator{TPM:New(d)}
 s.extend(t,0,[]byte("firmware"));s.extend(t,7,[]byte("secure boot"));
 os.WriteFile("/tmp/boot/q/fw.log",eventLog([]measured{{0,"firmware"},{7,"secure boot"}}),0o644)
 os.RemoveAll("/tmp/boot/q/comp"); os.MkdirAll("/tmp/boot/q/comp/200-sb.pcrlock.d",0o755)
 rec:=func(p int,s string) []byte { return fmt.Appendf(nil,`{"records":[{"pcr":%d,"digests":[{"hashAlg":"sha256","digest":"%x"}]}]}`,p,sha256.Sum256([]byte(s)))}
 os.WriteFile("/tmp/boot/q/comp/100-fw.pcrlock",rec(0,"firmware"),0o644)
 os.WriteFile("/tmp/boot/q/comp/200-sb.pcrlock.d/a.pcrlock",rec(7,"secure boot"),0o644)
 os.WriteFile("/tmp/boot/q/comp/200-sb.pcrlock.d/b.pcrlock",rec(7,"other"),0o644)
 d.Close()
}
