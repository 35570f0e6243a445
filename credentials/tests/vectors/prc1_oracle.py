# Independent PRC1 (from the specification and RFC 9496), which wrote prc1.json: python3 prc1_oracle.py > prc1.json
import hashlib, json
p=2**255-19; L=2**252+27742317777372353535851937790883648493
D=-121665*pow(121666,-1,p)%p
I=pow(2,(p-1)//4,p); I=I if I%2==0 else p-I
SAD=25063068953384623474111414158702152701244531502492656460079210482610430750235
IAD=54469307008909316920995813868745141605393597292927456921205312896311721017578
assert SAD*SAD%p==(-D-1)%p and IAD*IAD%p*(-1-D)%p==1
neg=lambda x:x%p%2==1
ab=lambda x:(-x)%p if neg(x) else x%p
def sqr(u,v):
    r=u*pow(v,3,p)*pow(u*pow(v,7,p),(p-5)//8,p)%p; c=v*r*r%p
    ok=c==u%p; fl=c==-u%p; fi=c==-u*I%p
    if fl or fi: r=r*I%p
    return ok or fl, ab(r)
def mapp(b):
    t=int.from_bytes(b,'little')%2**255%p
    r=I*t*t%p; u=(r+1)*(1-D*D)%p; v=(-1-r*D)*(r+D)%p
    sq,s=sqr(u,v)
    c=-1
    if not sq: s=-ab(s*t)%p; c=r
    N=(c*(r-1)*(D-1)**2-v)%p
    w0=2*s*v; w1=N*SAD; w2=1-s*s; w3=1+s*s
    return tuple(x%p for x in(w0*w3,w2*w1,w1*w3,w0*w2))
def add(P,Q):
    a=(P[1]-P[0])*(Q[1]-Q[0]); b=(P[1]+P[0])*(Q[1]+Q[0]); c=2*P[3]*Q[3]*D; d=2*P[2]*Q[2]
    e,f,g,h=b-a,d-c,d+c,b+a
    return tuple(x%p for x in(e*f,g*h,f*g,e*h))
def mul(k,P):
    R=(0,1,1,0); k%=L
    while k:
        if k&1: R=add(R,P)
        P=add(P,P); k>>=1
    return R
def enc(P):
    x,y,z,t=P; u1=(z+y)*(z-y); u2=x*y
    _,i=sqr(1,u1*u2*u2%p); d1=i*u1%p; d2=i*u2%p; zi=d1*d2*t%p; di=d2
    if neg(t*zi): x,y,di=y*I%p,x*I%p,d1*IAD%p
    if neg(x*zi): y=-y
    return ab(di*(z-y)).to_bytes(32,'little')
def H(label,*f):
    o=b''
    for n in(b"PRC1-ristretto255-sha512",label.encode()): o+=len(n).to_bytes(2,'big')+n
    return hashlib.sha512(o+b''.join(f)).digest()
S=lambda l,*f:int.from_bytes(H(l,*f),'little')%L
def G(l,*f):
    h=H(l,*f); return add(mapp(h[:32]),mapp(h[32:]))
sc=lambda s:s.to_bytes(32,'little'); n4=lambda n:n.to_bytes(4,'big')
seeded=lambda s:hashlib.sha256(b"postern PRC1 vector: "+s).digest()
root,relay,mbx,seed,rng=(seeded(x) for x in(b"root",b"relay",b"mailbox",b"seed",b"rng"))
kv,per,epoch,k,slot,used=3,2934,492912,4,2,[0,2]
digest=hashlib.sha512(b"an envelope").digest()
of=mbx+n4(kv)+n4(per); ctx=relay+of+n4(epoch)
y0,y1=S("key-y0",root,of),S("key-y1",root,of)
sl=[i.to_bytes(2,'big') for i in range(k)]
m=[S("member-scalar",of,seed,i) for i in sl]; U=[G("member-base",of,seed,i) for i in sl]
V=[mul(pow(y1,-1,L)*(y0+m[i]),U[i]) for i in range(k)]
P=G("nullifier-base",ctx)
nonce=lambda l:S(l,rng,sc(m[slot]),ctx,digest)
a,w=nonce("nonce-a"),nonce("nonce-w")
u,v,t=mul(a,U[slot]),mul(a,V[slot]),mul(m[slot],P)
c=S("challenge",ctx,enc(u),enc(v),enc(t),enc(mul(w,u)),enc(mul(w,P)),digest); z=(w+c*m[slot])%L
A1=add(mul(z+c*y0,u),mul(-c*y1,v)); A2=add(mul(z,P),mul(-c,t))
assert S("challenge",ctx,enc(u),enc(v),enc(t),enc(A1),enc(A2),digest)==c
st=sorted(enc(G("strike-padding",ctx,seed,sl[i]) if i in used else mul(m[i],P))[:8] for i in range(k))
name=b"relay.example"; sha256=lambda *f:hashlib.sha256(b''.join(f)).digest()
relay_id=sha256(b"postern/relay-id/v1",name); message=sha256(b"postern/reply-message/v1",ctx,enc(t)[:8])
x=lambda b:b.hex()
print(json.dumps({
 "comment":"PRC1, one credential and one presentation. Made by an implementation in Python of its own (design §3, RFC 9496). Bytes in hex; `stored` forms begin with version 1.",
 "root":x(root),"relay":x(relay),"mailbox":x(mbx),"key_version":kv,"period":per,"epoch":epoch,"k":k,"seed":x(seed),
 "envelope":"an envelope","envelope_sha512":x(digest),"rng":x(rng),"slot":slot,"used":used,
 "y0":x(sc(y0)),"y1":x(sc(y1)),"member_scalars":[x(sc(q)) for q in m],"member_bases":[x(enc(q)) for q in U],
 "credential":x(b"\1"+seed+b"".join(map(enc,V))),"nullifier_base":x(enc(P)),
 "presentation":x(enc(u)+enc(v)+enc(t)+sc(c)+sc(z)),"nullifier":x(enc(t)[:8]),
 "strike":[x(q) for q in st],"next_seed":x(H("next-seed",seed)[:32]),
 "message_id":x(message),"relay_name":name.decode(),"relay_id_of_name":x(relay_id)},indent=2,ensure_ascii=False))
