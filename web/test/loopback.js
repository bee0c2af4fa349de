// Two connections in one page and nothing between them: what the tests' own ears cost a voice.
import { AUDIO, Media, offer, speak } from "./sound.js";

const phone = { media: null };
const speaker = new RTCPeerConnection();

phone.verbs = {
  async start() {
    const listener = new RTCPeerConnection();
    phone.media = new Media(listener);
    speaker.onicecandidate = ({ candidate }) => listener.addIceCandidate(candidate);
    listener.onicecandidate = ({ candidate }) => speaker.addIceCandidate(candidate);
    const stream = await navigator.mediaDevices.getUserMedia({ audio: AUDIO });
    speaker.addTrack(stream.getAudioTracks()[0], stream);
    await speaker.setLocalDescription();
    await listener.setRemoteDescription(speaker.localDescription);
    await listener.setLocalDescription();
    await speaker.setRemoteDescription(listener.localDescription);
  },
  speak: () => speak(speaker),
};

offer(phone);
